package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRotateTheCA goes the way of the guide, with real processes: hosts learn the next authority, one is off and is
// named, the old one is retired by force, and the one that was off is enrolled anew.
func TestRotateTheCA(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.host("web-1", "web", nil, nil)
	off := r.host("web-2", "web", nil, nil)
	for _, h := range []string{"web-1", "web-2"} {
		r.until(h+" is heard", func() bool { return r.show(h).Host.Now.BootID != "" })
	}
	// An operator elsewhere has settings of their own, with the CA in them.
	mine := filepath.Join(r.dir, "mine.yaml")
	pem, err := os.ReadFile(filepath.Join(r.dir, "data", "ca", "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(r.dir, "ca-elsewhere.pem")
	if err := os.WriteFile(elsewhere, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	text := "server: https://" + r.addr + "\nca: ca-elsewhere.pem\ntoken_file: data/admin.token\n"
	if err := os.WriteFile(mine, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	off.proc.kill(15)
	if _, err := r.cli("ca", "retire", "--why", "early", "--yes"); err == nil || !strings.Contains(err.Error(), "kernwave ca rotate") {
		t.Errorf("retiring without a successor: %v", err)
	}
	if out := r.must("ca", "rotate", "--why", "yearly"); !hasAll(out, "serving", "next", "WAITING") {
		t.Errorf("rotate printed\n%s", out)
	}
	r.until("web-1 has learned it", func() bool {
		var v struct {
			Ready   int `json:"ready"`
			Waiting []struct {
				Host string `json:"host"`
			} `json:"waiting"`
		}
		out := r.must("ca", "show", "-o", "json")
		return json.Unmarshal([]byte(out), &v) == nil && v.Ready == 1 && len(v.Waiting) == 1 && v.Waiting[0].Host == "web-2"
	})
	r.server.kill(9) // what is on disk is enough
	r.startServer()
	if out := r.must("--config", mine, "ca", "trust"); !strings.Contains(out, "trusts now") {
		t.Error(out)
	}
	if out := r.must("--config", mine, "ca", "trust"); !strings.Contains(out, "knew already") {
		t.Error(out)
	}
	if _, err := r.cli("ca", "retire", "--why", "done", "--yes"); err == nil || !hasAll(err.Error(), "web-2", "--force", "enrol --anew") {
		t.Errorf("retiring while web-2 is off: %v", err)
	}
	if out := r.must("ca", "retire", "--why", "web-2 will be enrolled anew", "--force", "--yes"); !hasAll(out, "serving", "retired") {
		t.Errorf("retire printed\n%s", out)
	}
	boot := r.show("web-1").Host.Now.BootID
	r.server.kill(9)
	r.startServer()
	r.until("web-1 is heard by the new authority", func() bool {
		h := r.show("web-1").Host
		return h.Now.BootID == boot && !h.Silent
	})
	r.must("--config", mine, "status")
	off.start()
	r.until("web-2 says why it cannot come in", func() bool { return hasAll(off.out.String(), "unknown authority", "enrol --anew") })
	off.proc.kill(15)
	var tok struct {
		Token    string `json:"token"`
		CASHA256 string `json:"ca_sha256"`
	}
	r.json(&tok, "token", "create")
	p := off.launch("enrol", "--anew", "--ca-sha256", tok.CASHA256, "--token", tok.Token)
	<-p.done
	off.start()
	r.until("web-2 is back", func() bool { return !r.show("web-2").Host.Silent && p.cmd.ProcessState.ExitCode() == 0 })
	if out := r.must("events"); !hasAll(out, "is to follow", "counts for nothing any more", "by force", "web-2") {
		t.Errorf("events:\n%s", out)
	}
}
