// Command kernwave-lab runs small fleets of real virtual machines for tests and demos.
package main

import (
	"os"

	"github.com/kernwave/kernwave/internal/lab/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:]))
}
