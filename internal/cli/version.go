package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version names this build: the module's version, else the commit that it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var commit, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			commit = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	if commit == "" {
		return "devel"
	}
	return "devel-" + commit + dirty
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version of this program", Args: arguments(),
		Example: "  kernwave version",
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Kernwave string `json:"kernwave"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{Version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if a.json() {
				return printJSON(a.Out, "version", v)
			}
			if a.quiet {
				_, err := fmt.Fprintln(a.Out, v.Kernwave)
				return err
			}
			_, err := fmt.Fprintf(a.Out, "kernwave %s (%s, %s)\n", v.Kernwave, v.Go, v.Platform)
			return err
		},
	}
}
