// Command kernwave is the control plane of a fleet and its operators' command line.
package main

import (
	"os"

	"github.com/kernwave/kernwave/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:]))
}
