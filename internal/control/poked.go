package control

// Poked says whether anything poked since it was last asked. It is for callers that bring their own clock and call
// [Control.Tick] themselves, as [Control.Run] does on a poke.
func (c *Control) Poked() bool {
	select {
	case <-c.poke:
		return true
	default:
		return false
	}
}

// MinTick is how long [Control.Run] waits between a poke and the tick that it leads to.
const MinTick = minTick

// IdleTick is how long Run waits for the next tick when nothing is open.
const IdleTick = idleTick
