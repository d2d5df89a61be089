package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/internal/lab"
)

// hostStatus is one line of `status`.
type hostStatus struct {
	Name    string     `json:"name"`
	Model   string     `json:"model"`
	Power   bool       `json:"power"`
	Up      bool       `json:"up"`
	Kernel  string     `json:"kernel,omitempty"` // of the last boot
	Boots   int        `json:"boots"`
	Last    *time.Time `json:"last_boot,omitempty"`
	Console string     `json:"console"`
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the hosts of the fleet",
		Example: `  kernwave-lab status
  kernwave-lab status -o json`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			f, s, err := lab.Attach(a.dir)
			if err != nil {
				return err
			}
			var hosts []hostStatus
			for _, h := range s.Hosts {
				st := hostStatus{Name: h.Name, Model: h.Model, Power: f.Powered(h.Name), Console: f.Console(h.Name)}
				if boots := f.Boots(h.Name); len(boots) > 0 {
					b := boots[len(boots)-1]
					st.Kernel, st.Boots, st.Last = b.Release, len(boots), &b.RTC
				}
				st.Up = st.Power && st.Boots > 0 && !f.Starting(h.Name)
				hosts = append(hosts, st)
			}
			if a.output == "json" {
				return a.json("fleet", map[string]any{"suite": s.Suite, "accel": s.Accel, "base": s.Base, "serve": s.Serve, "hosts": hosts})
			}
			return a.table(hosts)
		},
	}
}

func (a *app) table(hosts []hostStatus) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tMODEL\tSTATE\tKERNEL\tBOOTS\tLAST BOOT")
	for _, h := range hosts {
		state, last := "starting", "-"
		switch {
		case !h.Power:
			state = "off"
		case h.Up:
			state = "up"
		}
		if h.Last != nil {
			last = h.Last.Format("2006-01-02 15:04:05 MST")
		}
		kernel := h.Kernel
		if kernel == "" {
			kernel = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", h.Name, h.Model, state, kernel, h.Boots, last)
	}
	return w.Flush()
}

// printState is what `up` prints when it is done.
func (a *app) printState() {
	f, s, err := lab.Attach(a.dir)
	if err != nil {
		return
	}
	if a.output == "json" {
		_ = a.json("fleet", s)
		return
	}
	var hosts []hostStatus
	for _, h := range s.Hosts {
		st := hostStatus{Name: h.Name, Model: h.Model, Power: true, Up: true}
		if boots := f.Boots(h.Name); len(boots) > 0 {
			b := boots[len(boots)-1]
			st.Kernel, st.Boots, st.Last = b.Release, len(boots), &b.RTC
		}
		hosts = append(hosts, st)
	}
	_ = a.table(hosts)
}

func (a *app) console() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "console HOST",
		Short: "Print what a host wrote on its serial console",
		Example: `  kernwave-lab console lab-1
  kernwave-lab console lab-1 --follow`,
		Args: exactly("HOST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, _, err := lab.Attach(a.dir)
			if err != nil {
				return err
			}
			path := f.Console(args[0])
			if path == "" {
				return f.CheckHost(args[0])
			}
			log, err := os.Open(path)
			if err != nil {
				return err
			}
			defer log.Close()
			for {
				if _, err := io.Copy(a.out, log); err != nil || !follow {
					return err
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(200 * time.Millisecond):
				}
			}
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	return cmd
}

func (a *app) exec() *cobra.Command {
	return &cobra.Command{
		Use:   "exec HOST -- COMMAND…",
		Short: "Run a command as root on a host, over its serial line",
		Long: `Run a command as root on a host. It does not need the host's network. Several words are one command; one
word is a shell script. The exit code is the command's; 255 means that the lab could not run it.`,
		Example: `  kernwave-lab exec lab-1 -- uname -r
  kernwave-lab exec lab-1 -- 'journalctl -b | grep -c error'`,
		Args: cobra.MatchAll(func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usageError{errors.New("kernwave-lab exec wants a HOST and a command")}
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, _, err := lab.Attach(a.dir)
			if err != nil {
				return labFailed{err}
			}
			script := args[1]
			if len(args) > 2 {
				words := make([]string, len(args)-1)
				for i, w := range args[1:] {
					words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
				}
				script = strings.Join(words, " ")
			}
			res, err := f.Exec(cmd.Context(), args[0], script)
			if err != nil {
				return labFailed{err}
			}
			if a.output == "json" {
				err = a.json("result", map[string]any{"stdout": res.Stdout, "stderr": res.Stderr, "exit": res.Exit, "boot_id": res.BootID})
			} else {
				fmt.Fprint(a.err, res.Stderr)
				_, err = io.WriteString(a.out, res.Stdout)
			}
			if err == nil && res.Exit != 0 {
				err = quietExit(res.Exit)
			}
			return err
		},
	}
}

func (a *app) push() *cobra.Command {
	return &cobra.Command{
		Use:     "push HOST SOURCE TARGET",
		Short:   "Copy a file of this machine into a host",
		Example: `  kernwave-lab push lab-1 agent.yaml /etc/kernwave/agent.yaml`,
		Args:    exactly("HOST", "SOURCE", "TARGET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !strings.HasPrefix(args[2], "/") {
				return usageError{fmt.Errorf("%q is not an absolute path", args[2])}
			}
			f, _, err := lab.Attach(a.dir)
			if err != nil {
				return err
			}
			return f.Push(cmd.Context(), args[0], lab.File{Path: args[2], Source: args[1]})
		},
	}
}

func (a *app) reset() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "reset HOST",
		Short: "Cut a host's power and give it back at once",
		Example: `  kernwave-lab reset lab-1
  kernwave-lab reset lab-1 --wait`,
		Args: exactly("HOST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, _, err := lab.Attach(a.dir)
			if err != nil {
				return err
			}
			n := len(f.Boots(args[0]))
			if err := f.Reset(cmd.Context(), args[0]); err != nil || !wait {
				return err
			}
			b, err := f.WaitBoot(cmd.Context(), args[0], n+1)
			if err == nil {
				fmt.Fprintln(a.out, b.Release)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is up, and print its kernel")
	return cmd
}

func (a *app) network() *cobra.Command {
	return &cobra.Command{
		Use:   "network HOST cut|mend",
		Short: "Pull a host's network cable, or plug it in again",
		Example: `  kernwave-lab network lab-1 cut
  kernwave-lab network lab-1 mend`,
		Args: exactly("HOST", "cut|mend"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[1] != "cut" && args[1] != "mend" {
				return usageError{fmt.Errorf("%q is neither cut nor mend", args[1])}
			}
			f, _, err := lab.Attach(a.dir)
			if err != nil {
				return err
			}
			return f.NetworkCut(cmd.Context(), args[0], args[1] == "cut")
		},
	}
}
