// Command kernwave is the control plane of a fleet and its operators' command line.
package main

import (
	"os"

	"github.com/kernwave/kernwave/cache/script"
	"github.com/kernwave/kernwave/internal/cli"
)

func main() {
	script.RunIfChild() // the cache gateway starts itself again to run an operator's command
	os.Exit(cli.Main(os.Args[1:]))
}
