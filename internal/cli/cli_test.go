package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"math/big"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kernwave/kernwave/cache/script"
	"github.com/kernwave/kernwave/internal/cli/clitest"
	"github.com/kernwave/kernwave/internal/operator"
)

var update = flag.Bool("update", false, "write the golden parts of the scripts and the reference anew")

func TestMain(m *testing.M) {
	script.RunIfChild()
	testscript.Main(m, map[string]func(){"kernwave": scriptMain})
}

// scriptMain is Main at a fixed time: ages in the golden output stay what they are.
func scriptMain() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := Run(ctx, os.Args[1:], Process{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Now: func() time.Time { return clitest.Now },
		RetryAfter: 10 * time.Millisecond,
	})
	stop()
	os.Exit(code)
}

// fleets are what scripts can ask for.
var fleets = map[string]func() clitest.Fleet{
	"empty": clitest.Empty, "small": clitest.Small, "sick": clitest.Sick,
	"finishing": clitest.Finishing, "restarting": clitest.Restarting, "panicking": clitest.Panicking, "aborted": clitest.Aborted,
}

type serverKey struct{}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		UpdateScripts:      *update,
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			e.Setenv("LANG", "C.UTF-8")
			e.Setenv("HOME", e.WorkDir+"/home")
			e.Values[serverKey{}] = new(*clitest.Server)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fleet": cmdFleet, "busy": cmdBusy, "gone": cmdGone, "otherca": cmdOtherCA, "deb": cmdDeb, "exits": cmdExits, "happen": cmdHappen,
		},
	})
}

// cmdFleet starts a control plane: "fleet small [viewer|expired]".
func cmdFleet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || fleets[args[0]] == nil {
		ts.Fatalf("usage: fleet NAME [viewer|expired]")
	}
	s, err := clitest.Start(fleets[args[0]]())
	ts.Check(err)
	ts.Defer(s.Close)
	ts.Setenv(envServer, s.URL)
	ts.Setenv(envCA, s.CAFile)
	ts.Setenv(envToken, clitest.AdminToken)
	if len(args) > 1 {
		ts.Setenv(envToken, map[string]string{"viewer": clitest.ViewerToken, "expired": clitest.ExpiredToken}[args[1]])
	}
	*ts.Value(serverKey{}).(**clitest.Server) = s
}

// server is what cmdFleet started.
func server(ts *testscript.TestScript) *clitest.Server {
	return *ts.Value(serverKey{}).(**clitest.Server)
}

// cmdBusy makes the next calls fail as unavailable.
func cmdBusy(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	server(ts).Busy(n)
}

// cmdGone ends the control plane; its address stays set.
func cmdGone(ts *testscript.TestScript, _ bool, _ []string) { server(ts).Stop() }

// cmdOtherCA writes a CA that signed nothing here.
func cmdOtherCA(ts *testscript.TestScript, _ bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
}

// cmdHappen appends an event to the record.
func cmdHappen(ts *testscript.TestScript, _ bool, args []string) {
	server(ts).Happen(operator.Event{Seq: 200, At: clitest.Now, Who: "control", Kind: "test", Rollout: "r-7", What: args[0]})
}

// cmdDeb writes a package: "deb FILE NAME VERSION ARCH [FILE-IN-IT…]".
func cmdDeb(ts *testscript.TestScript, _ bool, args []string) {
	d := clitest.Deb{Name: args[1], Version: args[2], Arch: args[3], Compression: "xz", Files: args[4:]}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), d.Build(), 0o644))
}

// cmdExits runs kernwave and checks the exit code: "exits 3 kernwave …".
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
