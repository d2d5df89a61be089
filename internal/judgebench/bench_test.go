package judgebench

import "testing"

// One rollout of 96 cells with a look a minute, by who costs what.
func BenchmarkRollout(b *testing.B) {
	m := NewMaker(Spec{}, 1)
	b.Run("made", func(b *testing.B) {
		for i := range b.N {
			for j := range 12 {
				m.Type(i, j)
			}
		}
	})
	for _, jd := range append([]Judge{&ours{}}, append(newHostLevel()[:1], newPooled()...)...) {
		b.Run(jd.Name(), func(b *testing.B) {
			for i := range b.N {
				for j := range 12 {
					jd.See(m.Type(i, j), nil)
				}
				jd.Decide(false)
			}
		})
	}
}
