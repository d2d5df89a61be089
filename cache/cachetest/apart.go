package cachetest

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// apartWord, as the first argument, makes a test's program try whether it can have a network of its own; apartMark, in its environment, says that it has.
const (
	apartWord = "cachetest-apart"
	apartMark = "KERNWAVE_TEST_NETWORK"
)

// noCut is why packets can not be made to vanish.
var noCut = "the tests do not run in a network of their own"

// NoCut is why packets cannot be made to vanish here; empty: they can.
func NoCut() string { return noCut }

// MainApart is Main in a network namespace of the tests' own, where Cut works. Whoever connects without an address of its own comes from
// 127.0.0.100, so that customers and gateways are on a machine of their own. Where no such network can be had, the tests run without; NoCut says why.
func MainApart(tests interface{ Run() int }, gateway func(args []string) error) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == gatewayWord:
	case len(os.Args) == 2 && os.Args[1] == apartWord:
		if err := furnish(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	case os.Getenv(apartMark) != "":
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "cachetest:", err)
			os.Exit(1)
		}
		noCut = ""
	default:
		if out, err := apart(apartWord).CombinedOutput(); err != nil {
			noCut = cmp.Or(strings.TrimSpace(string(out)), err.Error())
			break
		}
		cmd := apart(os.Args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), apartMark+"=yes")
		err := start(cmd)
		if err == nil {
			_ = cmd.Wait()
			os.Exit(cmd.ProcessState.ExitCode())
		}
		noCut = err.Error()
	}
	Main(tests, gateway)
}

// apart is this program in a network namespace of its own. Who is not root needs a user namespace for that.
func apart(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return cmd
}

// furnish brings loopback up and prepares what Cut fills. Packets vanish where they arrive: dropped where they leave, their sender would be told.
func furnish() error {
	for _, args := range []string{"address add 127.0.0.100/8 dev lo", "link set lo up"} {
		if err := tool("ip", "", strings.Fields(args)...); err != nil {
			return err
		}
	}
	return nft(`add table ip cachetest
add set ip cachetest cut { type ipv4_addr . ipv4_addr; }
add chain ip cachetest in { type filter hook input priority 0; }
add rule ip cachetest in ip saddr . ip daddr @cut drop
add set ip cachetest opening { type ipv4_addr . ipv4_addr; }
add rule ip cachetest in tcp flags & (syn | ack) == syn ip saddr . ip daddr @opening drop`)
}

// Cut makes every packet between two addresses vanish, in both directions, until Heal: connections stay open and hear nothing.
func Cut(a, b string) error {
	return nft(fmt.Sprintf("add element ip cachetest cut { %s . %s, %s . %s }", a, b, b, a))
}

// CutOpening makes packets vanish with which one address opens connections to another, until Heal: those that are open go on.
func CutOpening(from, to string) error {
	return nft(fmt.Sprintf("add element ip cachetest opening { %s . %s }", from, to))
}

// Heal ends every Cut and CutOpening.
func Heal() error { return nft("flush set ip cachetest cut; flush set ip cachetest opening") }

func nft(rules string) error { return tool("nft", rules, "-f", "-") }

// tool runs a program of the system's, which may stand where only root looks for programs.
func tool(name, in string, args ...string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/usr/sbin/" + name
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(in)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w %s", name, strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return nil
}
