package judgebench

// Profile is how one signal behaves when nothing is changed. Sizes are relative to a host's level.
type Profile struct {
	Name   string
	Unit   string
	Bad    string
	Margin float64

	Level     float64 // median of a type
	LevelType float64 // spread of types, log sd
	LevelHost float64 // spread of hosts of one type, log sd

	Day    float64 // amplitude of the day
	Shared float64 // sd of the hour-long movement that all hosts of a type share
	Jitter float64 // sd of the sample-long one
	React  float64 // spread of how strongly hosts follow the load: exponent, sd

	Fast      float64    // sd of a sample
	FastRho   float64    // its autocorrelation from minute to minute
	Skew      float64    // of a sample, as g of Tukey's g-and-h
	Heavy     float64    // tails of a sample, as h
	Wander    [3]float64 // sd of a host's own movements with memories of WanderTau
	Restless  float64    // how much Fast itself comes and goes on a host, within two hours: log sd
	Jumps     float64    // jumps of a host's level, per day
	JumpSize  float64    // mean absolute size of one
	TypeNoise float64    // spread of types in all of Fast, Wander and JumpSize, log sd
	HostNoise float64    // spread of hosts within a type, log sd

	Job      float64 // height of a job that hosts of half the types run every half hour for a sample or two
	IdleRuns float64 // share of types whose hosts are at zero a third of the time, for most of an hour each
}

// WanderTau are the memories of Profile.Wander, in seconds.
var WanderTau = [3]float64{20 * 60, 2 * 3600, 12 * 3600}

// Of uneasy hosts: how much more than Profile.HostNoise their noise differs, and the memory of it in seconds. The
// quiet host of the before is then often the noisy one of the after, so that a fit that trusts the before is too sure
// of itself. Both were chosen so that the rivals that compare hosts raise as many false alarms as was published of them.
const (
	uneasyBy  = 2.0
	uneasyTau = 5 * 3600.0
)

// Profiles are the signals of the cases, in their order. Names, units, margins and bad directions are those of the
// format. The other numbers were fitted in two steps: shape (memory, tails, zeros, spread of hosts and types) from the
// figures of published server metrics, size so that the smallest effects that the oracle finds in 4 hours are those
// of the published table; `judgebench fit` prints both.
var Profiles = []Profile{
	{
		Name: "cpu_util", Unit: "percent", Bad: "increase", Margin: 0.05, Level: 30, LevelType: 0.4, LevelHost: 0.1,
		Day: 0.3, Shared: 0.06, Jitter: 0.03, React: 0.06, Fast: 0.184, FastRho: 0.35, Skew: 0.4, Heavy: 0.1,
		Wander: [3]float64{0.0216, 0.0216, 0.0162}, Restless: 0.38, Jumps: 1, JumpSize: 0.0324, TypeNoise: 0.5, HostNoise: 0.5,
	},
	{
		Name: "mem_psi_some", Unit: "percent", Bad: "increase", Margin: 0.25, Level: 2, LevelType: 0.6, LevelHost: 0.35,
		Day: 0.3, Shared: 0.1, Jitter: 0.15, React: 0.135, Fast: 0.72, FastRho: 0.5, Skew: 0.75, Heavy: 0.02,
		Wander: [3]float64{0.108, 0.072, 0.036}, Restless: 0.12, TypeNoise: 0.3, HostNoise: 0.25, IdleRuns: 0.08,
	},
	{
		Name: "mem_used", Unit: "bytes", Bad: "increase", Margin: 0.05, Level: 4e10, LevelType: 0.5, LevelHost: 0.05,
		Day: 0.02, Shared: 0.003, Jitter: 0.0005, React: 0.1, Fast: 0.0021, FastRho: 0.9, Heavy: 0.1,
		Wander: [3]float64{0.00105, 0.00158, 0.0021}, Restless: 0.3, Jumps: 2, JumpSize: 0.0021, TypeNoise: 1, HostNoise: 0.7,
	},
	{
		Name: "io_latency_ms", Unit: "ms", Bad: "increase", Margin: 0.1, Level: 5, LevelType: 0.6, LevelHost: 0.15,
		Day: 0.15, Shared: 0.05, Jitter: 0.08, React: 0.092, Fast: 0.258, FastRho: 0.05, Skew: 0.35, Heavy: 0.06,
		Wander: [3]float64{0.0322, 0.023, 0.0138}, Restless: 0.14, TypeNoise: 0.3, HostNoise: 0.22, Job: 0.5,
	},
	{
		Name: "net_throughput", Unit: "bytes/s", Bad: "decrease", Margin: 0.05, Level: 3e7, LevelType: 0.8, LevelHost: 0.11,
		Day: 0.35, Shared: 0.08, Jitter: 0.1, React: 0.045, Fast: 0.235, FastRho: 0.4, Skew: 0.25, Heavy: 0.02,
		Wander: [3]float64{0.015, 0.0225, 0.0112}, Restless: 0.2, TypeNoise: 0.35, HostNoise: 0.4,
	},
	{
		Name: "app_error_rate", Unit: "ratio", Bad: "increase", Margin: 0.25, Level: 0.01, LevelType: 0.8, LevelHost: 0.18,
		Day: 0.1, Shared: 0.03, Jitter: 0.06, React: 0.064, Fast: 0.184, FastRho: 0.04, Skew: 0.15, Heavy: 0.02,
		Wander: [3]float64{0.012, 0.0096, 0.0064}, Restless: 0.08, TypeNoise: 0.35, HostNoise: 0.15, IdleRuns: 0.04,
	},
	{
		Name: "app_latency_p50", Unit: "ms", Bad: "increase", Margin: 0.05, Level: 12, LevelType: 0.6, LevelHost: 0.057,
		Day: 0.08, Shared: 0.02, Jitter: 0.02, React: 0.03, Fast: 0.048, FastRho: 0, Skew: 0.3, Heavy: 0.05,
		Wander: [3]float64{0.0072, 0.0048, 0.0036}, Restless: 0.13, TypeNoise: 0.35, HostNoise: 0.4, Job: 0.6,
	},
	{
		Name: "app_latency_p99", Unit: "ms", Bad: "increase", Margin: 0.1, Level: 60, LevelType: 0.6, LevelHost: 0.1,
		Day: 0.15, Shared: 0.06, Jitter: 0.05, React: 0.08, Fast: 0.168, FastRho: 0, Skew: 0.45, Heavy: 0.06,
		Wander: [3]float64{0.0224, 0.0179, 0.0112}, Restless: 0.17, TypeNoise: 0.4, HostNoise: 0.4, Job: 1.5,
	},
}

// profile is that of a name.
func profile(name string) Profile {
	for _, p := range Profiles {
		if p.Name == name {
			return p
		}
	}
	panic("judgebench: no signal " + name)
}
