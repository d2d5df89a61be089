package labtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/internal/lab"
)

// One fleet for everything that does not change a host's kernel: machines are the expensive part.
func TestVMFleet(t *testing.T) {
	im := Images(t)
	big := make([]byte, 35<<20)
	rand.NewChaCha8([32]byte{}).Read(big)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			w.Write(big)
			return
		}
		fmt.Fprintln(w, "hello")
	}))
	defer srv.Close()
	addr := srv.Listener.Addr().String()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	payload := []lab.File{
		{Path: "/etc/kernwave/ca.pem", Content: ca},
		{Path: "/usr/local/bin/greet", Content: []byte("#!/bin/sh\necho greeted >>/var/lib/greeted\n"), Mode: 0o755},
		{Path: "/etc/systemd/system/greet.service", Content: []byte("[Service]\nType=oneshot\nExecStart=/usr/local/bin/greet\n")},
		{Path: "/etc/systemd/system/multi-user.target.wants/greet.service", Link: "../greet.service"},
	}
	began := time.Now()
	f := Start(t, im, lab.FleetConfig{Forward: map[int]string{8443: addr}, Serve: im.Kernels()[1:2]},
		lab.HostSpec{Name: "web-1", Model: "R650", Payload: payload},
		lab.HostSpec{Name: "db-1", Model: "X11, rev 2", Payload: payload, MemoryMB: 384})
	t.Logf("2 hosts up after %.1fs, cpu %.1fs and %.1fs", time.Since(began).Seconds(), f.CPU("web-1").Seconds(), f.CPU("db-1").Seconds())
	ctx := t.Context()

	for host, model := range map[string]string{"web-1": "R650", "db-1": "X11, rev 2"} {
		got := Must(t, f, host, "hostname; cat /sys/class/dmi/id/product_name; uname -r; systemctl is-active greet.service >&2; until [ -e /var/lib/greeted ]; do sleep .1; done; cat /var/lib/greeted")
		if want := host + "\n" + model + "\n" + im.Base().Release + "\ngreeted"; got != want {
			t.Errorf("%s says %q, want %q", host, got, want)
		}
	}
	if a, b := Must(t, f, "web-1", "cat /etc/machine-id"), Must(t, f, "db-1", "cat /etc/machine-id"); a == b || len(a) != 32 {
		t.Errorf("machine ids %q and %q are not two different ones", a, b)
	}

	t.Run("a command's result comes back whole", func(t *testing.T) {
		res, err := f.Exec(ctx, "web-1", "head -c 3000000 /dev/zero | tr '\\0' x; echo oops >&2; exit 7")
		if err != nil || res.Exit != 7 || res.Stderr != "oops\n" || len(res.Stdout) != 3000000 {
			t.Errorf("got exit %d, stderr %q, %d bytes, %v", res.Exit, res.Stderr, len(res.Stdout), err)
		}
	})

	t.Run("a file arrives as it is", func(t *testing.T) {
		data := big[:300_000]
		if err := f.Push(ctx, "web-1", lab.File{Path: "/opt/x/blob", Content: data, Mode: 0o640}); err != nil {
			t.Fatal(err)
		}
		got, err := f.Pull(ctx, "web-1", "/opt/x/blob")
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("pulled %d bytes, %v; want the %d that were pushed", len(got), err, len(data))
		}
	})

	fetch := func(path string) string {
		return "/usr/lib/apt/apt-helper -o Acquire::https::CaInfo=/etc/kernwave/ca.pem -o Acquire::https::Verify-Host=false -o Acquire::Retries=0 " +
			"download-file https://" + lab.GuestAddr + ":8443" + path
	}
	t.Run("the server can be reached, and nothing else", func(t *testing.T) {
		began := time.Now()
		got := Must(t, f, "web-1", fetch("/big")+" /root/big >&2; sha256sum </root/big")
		if want := fmt.Sprintf("%x  -", sha256.Sum256(big)); got != want {
			t.Errorf("35 MB over TLS have sum %s, want %s", got, want)
		}
		t.Logf("35 MB over TLS in %.1fs", time.Since(began).Seconds())
		began = time.Now()
		Must(t, f, "web-1", `pids=; for i in $(seq 16); do `+fetch("/hello")+` /root/hello$i >&2 & pids="$pids $!"; done; for p in $pids; do wait $p || exit 1; done`)
		t.Logf("16 downloads at once in %.1fs", time.Since(began).Seconds())
		_, port, _ := net.SplitHostPort(addr)
		for _, target := range []string{"10.0.2.2/" + port, "10.0.2.2/22", "10.0.2.3/53", "1.1.1.1/80"} {
			res, err := f.Exec(ctx, "web-1", "timeout 5 bash -c '</dev/tcp/"+target+"'")
			if err != nil || res.Exit == 0 {
				t.Errorf("%s: exit %d, %v; want it out of reach", target, res.Exit, err)
			}
		}
	})

	t.Run("a server that restarts is found again", func(t *testing.T) {
		srv.Close()
		res, err := f.Exec(ctx, "db-1", fetch("/hello")+" /root/hello")
		if err != nil || res.Exit == 0 {
			t.Errorf("server gone: exit %d, %v; want a failure", res.Exit, err)
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		again := httptest.NewUnstartedServer(srv.Config.Handler)
		again.Listener.Close()
		again.Listener = l
		again.StartTLS()
		defer again.Close()
		Must(t, f, "db-1", fetch("/hello")+" /root/hello")
	})

	t.Run("a cut network stops packets and not commands", func(t *testing.T) {
		ping := "timeout 5 bash -c '</dev/tcp/" + lab.GuestAddr + "/80'"
		Must(t, f, "db-1", ping)
		if err := f.NetworkCut(ctx, "db-1", true); err != nil {
			t.Fatal(err)
		}
		if res, err := f.Exec(ctx, "db-1", ping); err != nil || res.Exit == 0 {
			t.Errorf("network cut: exit %d, %v; want a failure", res.Exit, err)
		}
		if err := f.NetworkCut(ctx, "db-1", false); err != nil {
			t.Fatal(err)
		}
		Must(t, f, "db-1", "for i in 1 2 3 4 5 6; do "+ping+" && exit 0; sleep 1; done; exit 1")
	})

	t.Run("a restart loses the command and keeps the disk", func(t *testing.T) {
		Must(t, f, "db-1", "echo kept >/root/kept; sync; echo lost >/root/lost")
		lost := make(chan error, 1)
		go func() {
			_, err := f.Exec(ctx, "db-1", "touch /run/began; sleep 600")
			lost <- err
		}()
		Must(t, f, "db-1", "until [ -e /run/began ]; do sleep .1; done")
		if err := f.Reset(ctx, "db-1"); err != nil {
			t.Fatal(err)
		}
		boot, err := f.WaitBoot(ctx, "db-1", 2)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-lost; !errors.Is(err, lab.ErrRebooted) {
			t.Errorf("the lost command returned %v, want ErrRebooted", err)
		}
		got := Must(t, f, "db-1", "cat /proc/sys/kernel/random/boot_id /root/kept; wc -l </var/lib/greeted; [ ! -e /root/lost ] || echo found")
		if want := boot.ID + "\nkept\n2"; !strings.HasPrefix(got, want) {
			t.Errorf("after the restart %q, want %q", got, want)
		}
	})

	t.Run("power comes and goes", func(t *testing.T) {
		if err := f.PowerOff("db-1"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Exec(ctx, "db-1", "true"); err == nil {
			t.Error("a host without power runs commands")
		}
		if err := f.PowerOn(ctx, "db-1"); err != nil {
			t.Fatal(err)
		}
		if n := len(f.Boots("db-1")); n != 3 {
			t.Errorf("%d boots, want 3", n)
		}
	})

	t.Run("slow is said so", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := f.WaitBoot(ctx, "web-1", 9); !errors.Is(err, lab.ErrSlow) {
			t.Errorf("got %v, want ErrSlow", err)
		}
	})
}
