// Package loader holds what the drivers of boot loaders share: what a trial is,
// what kernels are as files, and where folders are mounted. It decides nothing.
//
//	err := d.Arm(ctx, loader.Trial{Release: release, Running: running, Args: []string{"panic=30"}})
package loader

import (
	"fmt"
	"regexp"
)

// Trial is one boot into a kernel that is not trusted yet.
type Trial struct {
	Release string   // the kernel to try
	Running string   // the kernel that a plain boot must go on running
	Args    []string // added to the kernel's command line, where they win over what is there
}

// plainArg is what may stand unquoted on a kernel's command line in every loader's configuration.
var plainArg = regexp.MustCompile(`^[A-Za-z0-9_.,:=@/+-]+$`)

// CheckArgs refuses arguments that would mean something else to a loader than to the kernel.
func CheckArgs(args []string) error {
	for _, a := range args {
		if !plainArg.MatchString(a) {
			return fmt.Errorf("%q cannot stand on a kernel command line", a)
		}
	}
	return nil
}
