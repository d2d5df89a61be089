package judge

import "slices"

// trimmed is the mean without the largest and the smallest tenth. It changes the order of u. NaN: u is empty.
func trimmed(u []float64) float64 {
	if len(u) == 0 {
		return nan
	}
	cut := len(u) / 10
	if cut > 0 {
		if len(u) < 64 {
			slices.Sort(u)
		} else {
			sel(u, cut)
			sel(u[cut:], len(u)-2*cut-1)
		}
	}
	return mean(u[cut : len(u)-cut])
}

func mean(u []float64) float64 {
	s := 0.0
	for _, v := range u {
		s += v
	}
	return s / float64(len(u))
}

// median changes the order of u. NaN: u is empty.
func median(u []float64) float64 {
	if len(u) == 0 {
		return nan
	}
	m := len(u) / 2
	sel(u, m)
	if len(u)%2 == 1 {
		return u[m]
	}
	return (slices.Max(u[:m]) + u[m]) / 2
}

// sel orders u so far that u[k] is what sorting would put there, with nothing larger before and nothing smaller behind.
func sel(u []float64, k int) {
	lo, hi := 0, len(u)-1
	for hi-lo > 12 {
		a, b, c := u[lo], u[(lo+hi)/2], u[hi]
		pivot := max(min(a, b), min(max(a, b), c))
		i, j := lo, hi
		for i <= j {
			for u[i] < pivot {
				i++
			}
			for u[j] > pivot {
				j--
			}
			if i <= j {
				u[i], u[j] = u[j], u[i]
				i++
				j--
			}
		}
		switch {
		case k <= j:
			hi = j
		case k >= i:
			lo = i
		default:
			return
		}
	}
	slices.Sort(u[lo : hi+1])
}
