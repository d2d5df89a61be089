package resp

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"
)

// script is a connection whose client says all it has to say at once and then closes.
type script struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// converse feeds in to a connection of srv, and checks that what it answers is a sequence of whole values, and no more
// of them than there can be.
func converse(t testing.TB, srv *Server, in []byte) {
	s := &script{in: bytes.NewReader(in)}
	srv.serveConn(context.Background(), s)
	r := NewReader(&s.out, Limits{Depth: 64})
	values := 0
	for {
		_, err := r.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			t.Fatalf("%q: reply %d is broken: %v", in, values+1, err)
		}
		values++
	}
	// SUBSCRIBE and UNSUBSCRIBE answer once for each channel: a byte of input buys one value at most.
	if values > len(in)+1 {
		t.Fatalf("%q: %d replies to %d bytes", in, values, len(in))
	}
	if len(srv.open()) != 0 {
		t.Fatalf("%q: the connection is still there", in)
	}
}

var seeds = []string{
	"HELLO 3\r\nPING\r\nCOMMAND DOCS ping\r\n", "*1\r\n$7\r\nCOMMAND\r\n", "HELLO 3 AUTH a b SETNAME c\r\n",
	"CLIENT LIST\r\nCLIENT KILL ID 1\r\nCLIENT REPLY OFF\r\nPING\r\n", "SUBSCRIBE cache.jobs cache.job.1\r\nPING\r\nUNSUBSCRIBE\r\n",
	"CACHE.SAY a b c\r\nCACHE.KEY EXPLAIN k BY mem\r\n", "*2\r\n$9\r\nCACHE.SAY\r\n$3\r\n\x00\xff\r\r\n", "INFO all\r\nRESET\r\nSELECT 0\r\n",
	"CLIENT TRACKING on OPTIN\r\nCLIENT NO-TOUCH on\r\nACL WHOAMI\r\nCONFIG GET x\r\nQUIT\r\n", "CACHE.SAY HELP\r\nCACHE.KEY\r\nCACHE.NO\r\n", "CACHE.PANIC\r\nECHO x\r\n",
	"ECHO " + strings.Repeat("x", 3000) + "\r\n", "PING '" + strings.Repeat("\\x00", 500) + "'\r\n",
}

func FuzzConversation(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	open := start(f, Config{Limits: Limits{Bulk: 1 << 16, Request: 1 << 17}}, local).srv
	closed := start(f, Config{}, people{}).srv
	f.Fuzz(func(t *testing.T, in []byte) {
		if bytes.Contains(bytes.ToUpper(in), []byte("CACHE.WAIT")) || bytes.Contains(bytes.ToUpper(in), []byte("CACHE.STEPS")) ||
			bytes.Contains(bytes.ToUpper(in), []byte("CACHE.BIG")) || bytes.Count(bytes.ToUpper(in), []byte("AUTH")) > 2 {
			t.Skip("skipped: these commands take time by design")
		}
		converse(t, open, in)
		converse(t, closed, in)
	})
}

// conversationBytes is how much TestManyBytes feeds in. "make bench-cache" feeds 10⁹.
var conversationBytes = flag.Int64("resp.bytes", 4<<20, "how many bytes TestManyBytes feeds to the front end")

// TestManyBytes feeds pieces of conversations, cut, joined, repeated and damaged at random.
func TestManyBytes(t *testing.T) {
	srv := start(t, Config{Limits: Limits{Bulk: 1 << 16, Request: 1 << 17}}, local).srv
	strangers := start(t, Config{}, people{}).srv
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var fed int64
	var in []byte
	for n := 0; fed < *conversationBytes; n++ {
		in = in[:0]
		for range 1 + rnd.IntN(400) {
			s := seeds[rnd.IntN(len(seeds))]
			from := rnd.IntN(len(s))
			to := from + rnd.IntN(len(s)-from) + 1
			if rnd.IntN(4) > 0 {
				from, to = 0, len(s)
			}
			piece := s[from:to]
			if rnd.IntN(3) == 0 { // as clients write it
				var b bytes.Buffer
				w := NewWriter(&b, 2)
				var words []string
				for _, f := range bytes.Fields([]byte(piece)) {
					words = append(words, string(f))
				}
				if len(words) == 0 {
					continue
				}
				w.Command(words...)
				_ = w.Flush()
				in = append(in, b.Bytes()...)
				continue
			}
			in = append(in, piece...)
		}
		for range rnd.IntN(4) { // damage
			if len(in) > 0 {
				in[rnd.IntN(len(in))] = byte(rnd.IntN(256))
			}
		}
		if bytes.Count(bytes.ToUpper(in), []byte("AUTH")) > 1 {
			in = bytes.ReplaceAll(in, []byte("AUTH"), []byte("ECHO")) // logins are slow on purpose
		}
		if n%8 == 0 {
			converse(t, strangers, in)
		} else {
			converse(t, srv, in)
		}
		fed += int64(len(in))
	}
	t.Logf("%d bytes, %d commands answered", fed, srv.served.Load()+strangers.served.Load())
}
