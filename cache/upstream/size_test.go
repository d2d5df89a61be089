package upstream_test

import (
	"os"
	"strconv"
)

// cancelled is how many calls TestCancelledCallsLeakNothing cancels: KERNWAVE_CANCELLED, else 2,000.
func cancelled() int {
	if n, err := strconv.Atoi(os.Getenv("KERNWAVE_CANCELLED")); err == nil {
		return n
	}
	return 2000
}
