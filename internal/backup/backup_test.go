package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/backup/archive"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/store/sqlite"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, dir string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(dir, sqlite.Options{Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func begin(t testing.TB, s *sqlite.Store, dir string) store.Start {
	t.Helper()
	start, err := s.Begin(t.Context(), store.Place{MachineID: "m", Dir: dir, Instance: "i"})
	if err != nil {
		t.Fatal(err)
	}
	return start
}

// house makes a data directory whose database says who it is, and leaves its store open.
func house(t testing.TB, who string) (dir string, s *sqlite.Store) {
	t.Helper()
	dir = t.TempDir()
	s = open(t, dir)
	begin(t, s, "1:1")
	count(t, s)
	blob := sha256.Sum256([]byte("package of " + who))
	name := hex.EncodeToString(blob[:])
	for file, text := range map[string]string{
		"ca/key.pem": "key of " + who, "ca/cert.pem": "certificate of " + who, "admin.token": "token of " + who,
		"blobs/sha256/" + name[:2] + "/" + name: "package of " + who, "blobs/tmp/upload-1": "half", "stop": "{}", "operator.yaml": "x",
		"ca/.cert.pem-123": "half written",
	} {
		put(t, filepath.Join(dir, file), text)
	}
	return dir, s
}

func put(t testing.TB, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, dir, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// count makes one change of two rows that belong together.
func count(t testing.TB, s *sqlite.Store) {
	t.Helper()
	err := s.Update(context.Background(), func(tx store.Tx) error {
		h, err := tx.Host("counter")
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		h.ID, h.Status = "counter", fleet.StatusActive
		h.Facts.CPU.Cores++
		_, err = tx.AppendEvent(store.Event{Kind: "counted"})
		return errors.Join(err, tx.PutHost(h))
	})
	if err != nil {
		t.Error(err)
	}
}

func counted(t testing.TB, s *sqlite.Store) (rows, events int) {
	t.Helper()
	if err := s.View(t.Context(), func(r store.Reader) error {
		h, err := r.Host("counter")
		if err != nil {
			return err
		}
		es, err := r.Events(store.EventQuery{})
		rows, events = h.Facts.CPU.Cores, len(es)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return rows, events
}

func backUp(t testing.TB, dir string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "k.backup")
	if _, _, err := Write(t.Context(), Source{Dir: dir, Packages: true, By: "kernwave test on m", Now: at}, file); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestBackupOfARunningControlPlane: it is one instant of the database, however much is written meanwhile; and what is
// put back begins as restored, wherever it lies, in whichever incarnation is the next.
func TestBackupOfARunningControlPlane(t *testing.T) {
	dir, s := house(t, "a")
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				count(t, s)
			}
		}
	})
	file := filepath.Join(t.TempDir(), "k.backup")
	put(t, file, "an older one")
	m, size, err := Write(t.Context(), Source{Dir: dir, Packages: true, By: "kernwave test on m", Now: at}, file)
	close(stop)
	writing.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if m.Hosts != 1 || m.Incarnation != 1 || m.Term != 1 || !m.Packages || size.Packages != 1 || size.Bytes == 0 {
		t.Errorf("the backup says %+v, %+v", m, size)
	}
	fi, err := os.Stat(file)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: want 0600", fi, err)
	}
	if left, _ := filepath.Glob(file + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	to := filepath.Join(t.TempDir(), "new")
	res, err := Restore(t.Context(), Target{Dir: to, Now: at.Add(time.Hour)}, file)
	if err != nil {
		t.Fatal(err)
	}
	if res.Aside != "" || res.Manifest.MadeBy != "kernwave test on m" || !res.Manifest.MadeAt.Equal(at) {
		t.Errorf("restored %+v", res)
	}
	for file, want := range map[string]string{"ca/key.pem": "key of a", "ca/cert.pem": "certificate of a", "admin.token": "token of a"} {
		if got := content(t, to, file); got != want {
			t.Errorf("%s: %q", file, got)
		}
	}
	for _, gone := range []string{"stop", "operator.yaml", "ca/.cert.pem-123", "blobs/tmp/upload-1", newDir, readyDir} {
		if _, err := os.Lstat(filepath.Join(to, gone)); err == nil {
			t.Errorf("%s is there", gone)
		}
	}
	restored := open(t, to)
	if rows, events := counted(t, restored); rows != events || rows == 0 {
		t.Errorf("the copy is no instant: %d changes, %d events", rows, events)
	}
	start := begin(t, restored, "1:1") // the very same place: nothing but the copy itself says that it is one
	if start.Incarnation.Incarnation != 2 || !strings.Contains(start.Moved, "the backup that kernwave test on m made at 2026-03-01T12:00:00Z") {
		t.Errorf("it begins as %+v", start)
	}
	if err := restored.Update(t.Context(), func(tx store.Tx) error { return tx.SettleMove() }); err != nil {
		t.Fatal(err)
	}
	if start := begin(t, restored, "1:1"); start.Moved != "" || start.Incarnation.Incarnation != 2 {
		t.Errorf("the next start: %+v", start)
	}
}

func TestBackupWithoutPackages(t *testing.T) {
	dir, s := house(t, "a")
	s.Close() // nobody runs
	if err := os.Remove(filepath.Join(dir, "admin.token")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "k.backup")
	if _, size, err := Write(t.Context(), Source{Dir: dir, Now: at}, file); err != nil || size.Packages != 0 {
		t.Fatal(size, err)
	}
	other, s2 := house(t, "b")
	s2.Close()
	if _, err := Restore(t.Context(), Target{Dir: other, Force: true, Now: at}, file); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(other, "admin.token")); err == nil {
		t.Error("the token of another control plane stayed")
	}
	if blobs, _ := filepath.Glob(filepath.Join(other, "blobs/sha256/*/*")); len(blobs) != 1 {
		t.Errorf("packages that were there: %v", blobs)
	}
}

func TestBackupRefuses(t *testing.T) {
	dir, _ := house(t, "a")
	refused := func(what string, err error, want string) {
		t.Helper()
		e, ok := errors.AsType[*fleet.Error](err)
		if !ok || !strings.Contains(err.Error(), want) || e.Next == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, _, err := Write(t.Context(), Source{Dir: t.TempDir(), Now: at}, filepath.Join(t.TempDir(), "x"))
	refused("no control plane", err, "there is no control plane in it")
	_, _, err = Write(t.Context(), Source{Dir: dir, Now: at}, filepath.Join(t.TempDir(), "none", "x"))
	refused("no directory", err, "no such file")
	file := filepath.Join(t.TempDir(), "x")
	claimed, err := claim(file + ".partial")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = Write(t.Context(), Source{Dir: dir, Now: at}, file)
	refused("two at once", err, "another process writes it")
	claimed.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err = Write(ctx, Source{Dir: dir, Now: at}, file); err == nil {
		t.Error("a cancelled backup was made")
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("half a backup is there under its name")
	}
}

func TestRestoreRefuses(t *testing.T) {
	dir, _ := house(t, "a")
	file := backUp(t, dir)
	running, s := house(t, "b")
	_, err := Restore(t.Context(), Target{Dir: running, Force: true, Now: at}, file)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("another kernwave server (process %d) has it open", os.Getpid())) {
		t.Errorf("a running one: %v", err)
	}
	s.Close()
	_, err = Restore(t.Context(), Target{Dir: running, Now: at}, file)
	if e, ok := errors.AsType[*fleet.Error](err); !ok || !strings.Contains(err.Error(), "there is a control plane in it already") || !strings.Contains(e.Next, "--force") {
		t.Errorf("one that is there: %v", err)
	}
	if got := content(t, running, "ca/key.pem"); got != "key of b" {
		t.Errorf("refused, and changed all the same: %s", got)
	}
	for _, c := range []struct{ what, text, want string }{
		{"another file", "#!/bin/sh\n", "is not a backup of kernwave"},
		{"nothing", "", "cut off"},
	} {
		put(t, filepath.Join(t.TempDir(), "x"), c.text)
		bad := filepath.Join(t.TempDir(), "bad")
		put(t, bad, c.text)
		_, err := Restore(t.Context(), Target{Dir: running, Force: true, Now: at}, bad)
		if e, ok := errors.AsType[*fleet.Error](err); !ok || !strings.Contains(err.Error(), c.want) || e.Next == "" {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if _, err := Check(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there was read")
	}
}

// TestRestoreBeginsAboveWhatWasThere: after an earlier restore the hosts obey a higher incarnation than the backup's.
func TestRestoreBeginsAboveWhatWasThere(t *testing.T) {
	dir, s := house(t, "a")
	file := backUp(t, dir)
	for range 6 {
		if _, err := s.Begin(t.Context(), store.Place{MachineID: "m", Dir: "1:1", Instance: "again", Raise: true}); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	res, err := Restore(t.Context(), Target{Dir: dir, Force: true, Now: at}, file)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "before-restore-20260301T120000Z"); res.Aside != want || content(t, want, "ca/key.pem") != "key of a" {
		t.Errorf("aside: %s", res.Aside)
	}
	if start := begin(t, open(t, dir), "1:1"); start.Incarnation.Incarnation != 8 {
		t.Errorf("it begins as %+v, want incarnation 8: 7 was there", start.Incarnation)
	}
}

// contents is every file of a backup as it is read.
func contents(file []byte) (map[string]string, error) {
	out := map[string]string{}
	_, err := archive.Read(bytes.NewReader(file), func(name string, r io.Reader) error {
		if name == archive.ManifestName {
			return nil
		}
		b, err := io.ReadAll(r)
		out[name] = string(b)
		return err
	})
	return out, err
}

// TestDamagedBackup changes and cuts the file at many places: it is refused, or everything in it is as it was.
func TestDamagedBackup(t *testing.T) {
	dir, _ := house(t, "a")
	whole, err := os.ReadFile(backUp(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	want, err := contents(whole)
	if err != nil || len(want) != 5 {
		t.Fatalf("%d files, %v", len(want), err)
	}
	same := func(got map[string]string) bool {
		for name, b := range want {
			if got[name] != b {
				return false
			}
		}
		return len(got) == len(want)
	}
	refused, places := 0, 0
	for i := 0; i < len(whole); i += 61 {
		places++
		bad := bytes.Clone(whole)
		bad[i] ^= 0x20
		if got, err := contents(bad); err != nil {
			refused++
		} else if !same(got) {
			t.Fatalf("byte %d was changed, and nobody saw it", i)
		}
		if got, err := contents(whole[:i]); err == nil && (!same(got) || i < len(whole)-2048) { // the end is zeros that nobody needs
			t.Fatalf("cut at byte %d, and nobody saw it", i)
		}
	}
	t.Logf("%d bytes, %d places changed and cut, %d changes refused; the others do not matter (tar's padding, owners, times)", len(whole), places, refused)
	if refused < places*9/10 {
		t.Errorf("only %d of %d changes were refused", refused, places)
	}
}

// TestRestoreKilledAnywhere ends a restore before each of its steps: the directory is then what it was, or what it is to
// be, as soon as the server is started.
func TestRestoreKilledAnywhere(t *testing.T) {
	from, _ := house(t, "new")
	file := backUp(t, from)
	var steps []string
	for n := 0; ; n++ {
		dir, s := house(t, "old")
		s.Close()
		killed := killAt(t, dir, file, n, &steps)
		_, ready := os.Lstat(filepath.Join(dir, readyDir))
		if _, err := Finish(dir); err != nil {
			t.Fatalf("killed before %q: %v", killed, err)
		}
		who := strings.TrimPrefix(content(t, dir, "ca/key.pem"), "key of ")
		if want := map[bool]string{true: "new", false: who}[ready == nil || killed == ""]; who != want {
			t.Errorf("killed before %q: the key of %s", killed, who)
		}
		if got := content(t, dir, "ca/cert.pem") + content(t, dir, "admin.token"); got != "certificate of "+who+"token of "+who {
			t.Errorf("killed before %q: half done: %s", killed, got)
		}
		if _, err := os.Lstat(filepath.Join(dir, readyDir)); err == nil {
			t.Errorf("killed before %q: not tidied up", killed)
		}
		if who == "new" {
			if _, err := os.Lstat(filepath.Join(dir, dbName+"-wal")); err == nil {
				t.Fatalf("killed before %q: the old database's log lies beside the new one", killed)
			}
			if start := begin(t, open(t, dir), "1:1"); start.Incarnation.Incarnation != 2 {
				t.Errorf("killed before %q: it begins as %+v", killed, start)
			}
			if blobs, _ := filepath.Glob(filepath.Join(dir, "blobs/sha256/*/*")); len(blobs) != 2 {
				t.Errorf("killed before %q: packages %v", killed, blobs)
			}
		}
		if killed == "" {
			t.Logf("%d steps: %s", n, strings.Join(steps, ", "))
			if n < 14 {
				t.Errorf("only %d steps were tried", n)
			}
			return
		}
	}
}

type kill struct{ step string }

// killAt restores into dir and ends it before step n; empty: it had fewer.
func killAt(t *testing.T, dir, file string, n int, steps *[]string) (killed string) {
	t.Helper()
	defer func() {
		if k, ok := recover().(kill); ok {
			killed = k.step
		}
	}()
	i := 0
	*steps = nil
	_, err := Restore(t.Context(), Target{Dir: dir, Force: true, Now: at, at: func(step string) {
		if i == n {
			panic(kill{step})
		}
		if step == "make it true" { // whoever still reads the old database keeps its log
			put(t, filepath.Join(dir, dbName+"-wal"), "old log")
		}
		i++
		*steps = append(*steps, step)
	}}, file)
	if err != nil {
		t.Fatal(err)
	}
	return ""
}
