package cachetest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/resp"
)

// Patience is how long a server may take to start or to agree with others on a busy machine.
const Patience = 60 * time.Second

// Server is one running server.
type Server struct {
	Version Version
	Host    string // an address on loopback; each may stand for a machine of its own
	Port    int
	Dir     string

	tb   TB
	face string
	args []string
	mu   sync.Mutex
	cmd  *exec.Cmd
	dead chan struct{}
	conn net.Conn
	r    *resp.Reader
	w    *resp.Writer
}

// Addr is HOST:PORT.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Start starts one server on 127.0.0.1 with more settings, as on the command line: "--maxmemory", "100mb".
func Start(t TB, v Version, settings ...string) *Server {
	t.Helper()
	return startAt(t, v, "server", "127.0.0.1", settings...)
}

// StartOn is Start on another address of loopback, such as 127.0.0.2, which stands for another machine.
func StartOn(t TB, v Version, host string, settings ...string) *Server {
	t.Helper()
	return startAt(t, v, "server", host, settings...)
}

func startAt(t TB, v Version, face, host string, settings ...string) *Server {
	t.Helper()
	for try := 0; ; try++ {
		s := &Server{Version: v, Host: host, Port: FreePort(t, host), Dir: t.TempDir(), tb: t, face: face}
		conf := filepath.Join(s.Dir, "server.conf")
		lines := []string{
			"port " + strconv.Itoa(s.Port), "bind " + host, "dir " + s.Dir, "protected-mode no",
			"bind-source-addr " + host, // others take a node's address from where its connections come from
			"logfile " + filepath.Join(s.Dir, "log"),
		}
		if face == "server" {
			lines = append(lines, `save ""`, "appendonly no", "enable-debug-command yes", "repl-diskless-sync-delay 0")
		}
		for i := 0; i+1 < len(settings); i += 2 {
			if settings[i] == "raw" {
				lines = append(lines, settings[i+1])
				continue
			}
			lines = append(lines, strings.TrimPrefix(settings[i], "--")+" "+settings[i+1])
		}
		if strings.Contains(strings.Join(lines, "\n"), "cluster-enabled yes") {
			lines = append(lines, "cluster-announce-ip "+host, "cluster-port "+strconv.Itoa(FreePort(t, host)))
		}
		if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatalf("%v", err)
		}
		s.args = []string{conf}
		err := s.boot()
		if err == nil {
			t.Cleanup(s.Kill)
			return s
		}
		log, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
		if try < 3 && strings.Contains(string(log), "in use") { // someone else took the port meanwhile
			continue
		}
		t.Fatalf("start %s %s: %v\n%s", v.Name, face, err, log)
	}
}

// boot starts the process and waits until it answers.
func (s *Server) boot() error {
	cmd := s.Version.command(s.face, s.args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Kill ends its children, too
	if err := start(cmd); err != nil {
		return err
	}
	dead := make(chan struct{})
	go func() { _ = cmd.Wait(); close(dead) }()
	s.mu.Lock()
	s.cmd, s.dead = cmd, dead
	s.mu.Unlock()
	end := time.Now().Add(Patience)
	for time.Now().Before(end) {
		select {
		case <-dead:
			return fmt.Errorf("it ended at once")
		default:
		}
		if v, err := s.Do("PING"); err == nil && (v.Str == "PONG" || strings.HasPrefix(v.Str, "LOADING") || strings.HasPrefix(v.Str, "MASTERDOWN")) {
			// Another test's server may have taken the port meanwhile: then ours is about to end, and says so in its log.
			if s.Info("process_id") == strconv.Itoa(cmd.Process.Pid) {
				return nil
			}
			s.hangUp()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("it did not answer within %s", Patience)
}

// Restart starts a server that was killed or shut down, with the file it had.
func (s *Server) Restart() {
	s.tb.Helper()
	if err := s.boot(); err != nil {
		s.tb.Fatalf("restart %s: %v", s.Addr(), err)
	}
}

// Kill ends the process, and what it has forked to save its data, by SIGKILL, and waits for their end. It may be called again.
func (s *Server) Kill() {
	s.mu.Lock()
	cmd, dead := s.cmd, s.dead
	s.mu.Unlock()
	s.hangUp()
	if cmd == nil {
		return
	}
	select {
	case <-dead: // its number may be another's by now
		return
	default:
	}
	group := -cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGCONT)
	_ = syscall.Kill(group, syscall.SIGKILL)
	<-dead
	for end := time.Now().Add(time.Second); syscall.Kill(group, 0) == nil && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// hangUp closes the connection of the server's own.
func (s *Server) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// Stop halts the process without ending it: its sockets stay open and nothing answers, as on a blackholed host.
func (s *Server) Stop() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

// Continue ends Stop.
func (s *Server) Continue() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }

// PID is the process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Do sends one command on a connection of the server's own and returns the reply; errors of Redis are values.
func (s *Server) Do(args ...string) (cache.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		c, err := net.DialTimeout("tcp", s.Addr(), time.Second)
		if err != nil {
			return cache.Value{}, err
		}
		s.conn, s.r, s.w = c, resp.NewReader(c, resp.Limits{}), resp.NewWriter(c, 2)
	}
	_ = s.conn.SetDeadline(time.Now().Add(Patience))
	s.w.Command(args...)
	err := s.w.Flush()
	var v cache.Value
	if err == nil {
		v, err = s.r.Next()
	}
	if err != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
	return v, err
}

// Must is Do that fails the test on any error.
func (s *Server) Must(args ...string) cache.Value {
	s.tb.Helper()
	v, err := s.Do(args...)
	if err == nil && v.Kind == cache.Err {
		err = fmt.Errorf("%s", v.Str)
	}
	if err != nil {
		s.tb.Fatalf("%s %s: %s: %v", s.Version.Name, s.Addr(), strings.Join(args, " "), err)
	}
	return v
}

// Info is one field of INFO; empty: there is none.
func (s *Server) Info(field string) string {
	v, err := s.Do("INFO", "everything")
	if err != nil {
		return ""
	}
	for line := range strings.SplitSeq(v.Str, "\r\n") {
		if f, ok := strings.CutPrefix(line, field+":"); ok {
			return f
		}
	}
	return ""
}

// Fill sends many commands in one go and fails the test on the first that is refused.
func (s *Server) Fill(cmds func(send func(args ...string))) {
	s.tb.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		s.tb.Fatalf("%v", err)
	}
	defer c.Close()
	w, r := resp.NewWriter(c, 2), resp.NewReader(c, resp.Limits{})
	waiting := 0
	drain := func() {
		if err := w.Flush(); err != nil {
			s.tb.Fatalf("fill %s: %v", s.Addr(), err)
		}
		for ; waiting > 0; waiting-- {
			if v, err := r.Next(); err != nil || v.Kind == cache.Err {
				s.tb.Fatalf("fill %s: %v %v", s.Addr(), v.Str, err)
			}
		}
	}
	cmds(func(args ...string) {
		w.Command(args...)
		if waiting++; waiting == 1000 {
			drain()
		}
	})
	drain()
}

// FreePort returns a port of host that nobody listens on.
func FreePort(t TB, host string) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Eventually waits until what holds, and fails the test with why it does not.
func Eventually(t TB, what string, holds func() bool) {
	t.Helper()
	end := time.Now().Add(Patience)
	for !holds() {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", Patience, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
