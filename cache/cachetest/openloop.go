package cachetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// OpenLoop is what customers would feel: one process, one thread, that sends operations at a fixed rate whether answers come
// or not, and measures each from the instant at which it was to be sent.
type OpenLoop struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  io.ReadCloser
	what string
}

// Took is one operation.
type Took struct {
	At   time.Time // at which it was to be sent
	Long time.Duration
}

// Gap is a time in which a processor of the machine did not run even a thread that goes before all others: its host had other
// things to do. What was measured meanwhile says nothing about a server.
type Gap struct{ From, To time.Time }

// A metronome on each processor looks that often, and what is late by more than the other is a gap.
const (
	gapTick  = 2 * time.Millisecond
	gapLeast = 2 * time.Millisecond
)

// metronomePriority goes before the servers', whose is lower than it.
const metronomePriority = 40

// openLoopWord makes a test's own program the generator. Its TestMain calls OpenLoopMain first.
const openLoopWord = "cachetest-open-loop"

// openConns is over how many connections the operations are spread.
const openConns = 8

// StartOpenLoop begins to send rate operations a second to s, nine reads for each write, over keys in the order of a Zipf law
// with exponent 1.01; gaps are drawn from the exponential distribution. The keys must hold strings; their expiry is kept.
func (s *Server) StartOpenLoop(rate int, keys []string) *OpenLoop {
	s.tb.Helper()
	path := filepath.Join(s.Dir, "open-loop.keys")
	if err := os.WriteFile(path, []byte(strings.Join(keys, "\n")), 0o600); err != nil {
		s.tb.Fatalf("%v", err)
	}
	l := &OpenLoop{cmd: exec.Command("/proc/self/exe", openLoopWord, s.Addr(), strconv.Itoa(rate), path), what: s.Addr()}
	l.cmd.Stderr = os.Stderr
	in, err := l.cmd.StdinPipe()
	if err == nil {
		l.in = in
		l.out, err = l.cmd.StdoutPipe()
	}
	if err == nil {
		err = start(l.cmd)
	}
	if err == nil {
		_, err = io.ReadFull(l.out, make([]byte, 1)) // it says when it sends
	}
	if err != nil {
		s.tb.Fatalf("the generator of load: %v", err)
	}
	s.tb.Cleanup(func() { _ = l.cmd.Process.Kill(); _ = l.cmd.Wait() })
	return l
}

// PID is the generator's process.
func (l *OpenLoop) PID() int { return l.cmd.Process.Pid }

// Stop ends the load and returns every operation, and the gaps of the machine. An operation that was refused, or that got no
// answer within two seconds after the end, is an error.
func (l *OpenLoop) Stop() ([]Took, []Gap, error) {
	_ = l.in.Close()
	b, err := io.ReadAll(l.out)
	if werr := l.cmd.Wait(); err == nil && werr != nil {
		err = werr
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the generator of load for %s: %w", l.what, err)
	}
	var out []Took
	var gaps []Gap
	for ; len(b) >= 24; b = b[24:] {
		at, long := time.Unix(0, int64(binary.LittleEndian.Uint64(b[8:]))), time.Duration(binary.LittleEndian.Uint64(b[16:]))
		if b[0] == 'g' {
			gaps = append(gaps, Gap{at, at.Add(long)})
		} else {
			out = append(out, Took{at, long})
		}
	}
	return out, gaps, nil
}

// OpenLoopMain is the generator, where this process was started as one; it does not return then.
func OpenLoopMain() {
	if len(os.Args) != 5 || os.Args[1] != openLoopWord {
		return
	}
	if err := generate(os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "the generator of load:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// openConn is one connection of the generator.
type openConn struct {
	fd    int
	out   []byte      // what the kernel did not take yet
	in    []byte      // what is no whole answer yet
	asked []time.Time // when each operation without an answer was to be sent
}

func generate(addr, rateWord, path string) error {
	debug.SetGCPercent(-1) // a collection would be measured as the server's
	runtime.LockOSThread()
	rate, err := strconv.Atoi(rateWord)
	if err != nil {
		return err
	}
	list, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	keys := strings.Split(string(list), "\n")
	z, r := NewZipf(len(keys), 1.01), rand.New(rand.NewPCG(1, 2))
	conns := make([]*openConn, openConns)
	fds := make([]unix.PollFd, openConns)
	for i := range conns {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		f, err := nc.(*net.TCPConn).File() // its own, which the runtime does not wait for
		if err != nil {
			return err
		}
		defer f.Close()
		conns[i] = &openConn{fd: int(f.Fd())}
		if err := unix.SetNonblock(conns[i].fd, true); err != nil {
			return err
		}
		fds[i] = unix.PollFd{Fd: int32(conns[i].fd)}
	}
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	stop := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(stop) }()
	took := make([]Took, 0, 1<<20)
	gaps := metronomes()
	value := strings.Repeat("v", 100)
	if _, err := os.Stdout.Write([]byte{'.'}); err != nil {
		return err
	}
	next, at, buf, last := time.Now(), 0, make([]byte, 64<<10), time.Time{}
	for waiting := 0; ; {
		now := time.Now()
		if last.IsZero() {
			select {
			case <-stop:
				last = now
			default:
			}
		}
		for last.IsZero() && !next.After(now) {
			c := conns[at%openConns]
			at++
			if key := keys[z.Draw(r)]; at%10 == 0 {
				c.out = fmt.Appendf(c.out, "*4\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n$7\r\nKEEPTTL\r\n", len(key), key, len(value), value)
			} else {
				c.out = fmt.Appendf(c.out, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key)
			}
			c.asked = append(c.asked, next)
			waiting++
			if err := c.send(); err != nil {
				return err
			}
			next = next.Add(time.Duration(r.ExpFloat64() / float64(rate) * 1e9))
			now = time.Now()
		}
		if !last.IsZero() && (waiting == 0 || now.Sub(last) > 2*time.Second) {
			if waiting > 0 {
				return fmt.Errorf("%d operations got no answer", waiting)
			}
			return write(took, gaps())
		}
		wait := next.Sub(now)
		if !last.IsZero() {
			wait = 10 * time.Millisecond
		}
		for i, c := range conns {
			fds[i].Events, fds[i].Revents = unix.POLLIN, 0
			if len(c.out) > 0 {
				fds[i].Events |= unix.POLLOUT
			}
		}
		ts := unix.NsecToTimespec(int64(max(0, wait)))
		if _, err := unix.Ppoll(fds, &ts, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for i, c := range conns {
			if fds[i].Revents&unix.POLLOUT != 0 {
				if err := c.send(); err != nil {
					return err
				}
			}
			if fds[i].Revents&^unix.POLLOUT == 0 {
				continue
			}
			n, err := unix.Read(c.fd, buf)
			switch {
			case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
				continue
			case err != nil:
				return err
			case n == 0:
				return errors.New("the server closed a connection")
			}
			got, err := c.answers(buf[:n])
			if err != nil {
				return err
			}
			now := time.Now()
			for _, asked := range c.asked[:got] {
				took = append(took, Took{asked, now.Sub(asked)})
			}
			c.asked = append(c.asked[:0], c.asked[got:]...)
			waiting -= got
		}
	}
}

func (c *openConn) send() error {
	n, err := unix.Write(c.fd, c.out)
	if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
		return err
	}
	c.out = append(c.out[:0], c.out[max(0, n):]...)
	return nil
}

// answers counts the whole answers up to the end of more, and keeps the rest.
func (c *openConn) answers(more []byte) (got int, err error) {
	c.in = append(c.in, more...)
	b := c.in
	for {
		end := bytes.Index(b, []byte("\r\n"))
		if end < 0 {
			break
		}
		size := end + 2
		switch b[0] {
		case '+':
		case '$':
			if n, _ := strconv.Atoi(string(b[1:end])); n >= 0 {
				size += n + 2
			}
		default:
			return 0, fmt.Errorf("the server answers %q", b[:end])
		}
		if len(b) < size {
			break
		}
		b = b[size:]
		got++
	}
	c.in = append(c.in[:0], b...)
	return got, nil
}

// metronomes begins to look for gaps on each processor; what it returns ends that and says what there was.
func metronomes() (end func() []Gap) {
	var mu sync.Mutex
	var gaps []Gap
	stop := make(chan struct{})
	for cpu := range runtime.NumCPU() {
		go func() {
			runtime.LockOSThread()
			var set unix.CPUSet
			set.Set(cpu)
			if unix.SchedSetaffinity(0, &set) != nil {
				return // a processor that this process may not use
			}
			_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: metronomePriority}, 0) // else it sees neighbours, too
			tick := unix.NsecToTimespec(int64(gapTick))
			for last := time.Now(); ; {
				_ = unix.Nanosleep(&tick, nil)
				now := time.Now()
				if now.Sub(last) > gapTick+gapLeast {
					mu.Lock()
					gaps = append(gaps, Gap{last, now})
					mu.Unlock()
				}
				last = now
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
	}
	return func() []Gap {
		close(stop)
		mu.Lock()
		defer mu.Unlock()
		return gaps
	}
}

// write writes records of 24 bytes: which kind, when, how long.
func write(took []Took, gaps []Gap) error {
	b := make([]byte, 0, 24*(len(took)+len(gaps)))
	put := func(kind uint64, at time.Time, long time.Duration) {
		b = binary.LittleEndian.AppendUint64(b, kind)
		b = binary.LittleEndian.AppendUint64(b, uint64(at.UnixNano()))
		b = binary.LittleEndian.AppendUint64(b, uint64(long))
	}
	for _, t := range took {
		put('t', t.At, t.Long)
	}
	for _, g := range gaps {
		put('g', g.From, g.To.Sub(g.From))
	}
	_, err := os.Stdout.Write(b)
	return err
}

// FIFO gives every thread of a process the real-time policy SCHED_FIFO at a priority from 1, so that neighbours on a busy machine
// do not take part in what is measured. Threads that the process starts later inherit it. It needs CAP_SYS_NICE.
func FIFO(pid, priority int) error {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	for _, t := range tasks {
		tid, _ := strconv.Atoi(t.Name())
		if a, err := unix.SchedGetAttr(tid, 0); err == nil && a.Policy == unix.SCHED_FIFO && int(a.Priority) > priority {
			continue // a metronome
		}
		err := unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: uint32(priority)}, 0)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("SCHED_FIFO: %w", err)
		}
	}
	return nil
}
