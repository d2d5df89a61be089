package control

import "time"

// Poked says whether there is a reason for a tick since it was last asked, and within what time. It is for callers that
// bring their own clock and call [Control.Tick] themselves, as [Control.Run] does.
func (c *Control) Poked() (within time.Duration, yes bool) {
	select {
	case <-c.nudged:
		within, yes = c.nudgeTick(), true
	default:
	}
	select {
	case <-c.poke:
		within, yes = minTick, true
	default:
	}
	return within, yes
}

// MinTick is the shortest time between two ticks of [Control.Run].
const MinTick = minTick

// IdleTick is how long Run waits for the next tick when nothing is open.
const IdleTick = idleTick
