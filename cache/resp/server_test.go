package resp

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
)

// people are the users of these tests: the secret is the name, backwards.
type people struct{ nobody cache.User }

var roles = map[string]cache.Role{"ada": cache.Admin, "bob": cache.Operator, "vi": cache.Viewer}

func (p people) Login(name, secret string) (cache.User, error) {
	b := []byte(name)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	if roles[name] == "" || string(b) != secret {
		return cache.User{}, cache.Errorf(cache.CodeWrongPass, "", "invalid username-password pair or user is disabled.")
	}
	return cache.User{Name: name, Role: roles[name]}, nil
}

func (p people) Default() (cache.User, bool) { return p.nobody, p.nobody.Name != "" }

// seen is how a call of CACHE.WAIT ended.
type seen struct {
	cause error
	at    time.Time
}

type rig struct {
	srv  *Server
	addr string
	gw   *cache.Gateway
	// began and ended get one value for each call of CACHE.WAIT.
	began chan struct{}
	ended chan seen
	stop  context.CancelFunc
	done  chan error
}

// start runs a server with a few commands on a free port.
func start(t testing.TB, cfg Config, users cache.Users) *rig {
	t.Helper()
	r := &rig{began: make(chan struct{}, 1000), ended: make(chan seen, 1000), done: make(chan error, 1)}
	reg := cache.NewRegistry()
	put := func(c cache.Command) {
		if c.Class == 0 {
			c.Class = cache.Read
		}
		c.Summary = "for tests"
		if err := reg.Put(&c); err != nil {
			t.Fatal(err)
		}
	}
	put(cache.Command{Name: "CACHE.WAIT", Run: func(ctx context.Context, _ *cache.Call) (cache.Value, error) {
		r.began <- struct{}{}
		<-ctx.Done()
		r.ended <- seen{context.Cause(ctx), time.Now()}
		return cache.Value{}, ctx.Err()
	}})
	put(cache.Command{Name: "CACHE.SAY", Args: []cache.Arg{{Name: "words", Type: cache.Rest}}, Run: func(_ context.Context, c *cache.Call) (cache.Value, error) {
		return cache.Dict("words", cache.Strings(c.Rest("words")...), "who", cache.String(c.User.Name)), nil
	}})
	put(cache.Command{Name: "CACHE.KEY EXPLAIN", Args: []cache.Arg{{Name: "key"}, {Name: "by", Keyword: "BY", Optional: true, Enum: []string{"mem", "items"}}}, Run: func(context.Context, *cache.Call) (cache.Value, error) {
		return cache.Real(1.5), nil
	}})
	put(cache.Command{Name: "CACHE.UNLINK", Class: cache.Write, Run: func(context.Context, *cache.Call) (cache.Value, error) { return cache.OK, nil }})
	put(cache.Command{Name: "CACHE.PANIC", Run: func(context.Context, *cache.Call) (cache.Value, error) { panic("at the disco") }})
	big := cache.String(strings.Repeat("x", 1<<20))
	put(cache.Command{Name: "CACHE.BIG", Args: []cache.Arg{{Name: "mb", Type: cache.Integer}}, Run: func(_ context.Context, c *cache.Call) (cache.Value, error) {
		v := cache.Value{Kind: cache.Array}
		for range c.Int("mb") {
			v.Items = append(v.Items, big)
		}
		return v, nil
	}})
	put(cache.Command{Name: "CACHE.STEPS", Run: func(ctx context.Context, c *cache.Call) (cache.Value, error) {
		for i := range 3 {
			c.Progress(cache.Dict("job", cache.String("j-1"), "done", cache.Number(i)))
			select {
			case <-time.After(progressEvery + 20*time.Millisecond):
			case <-ctx.Done():
				return cache.Value{}, ctx.Err()
			}
		}
		return cache.OK, nil
	}})
	r.gw = &cache.Gateway{Registry: reg, Users: users, Log: &cache.MemLog{}}
	var err error
	if r.srv, err = NewServer(cfg, r.gw, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { r.done <- r.srv.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-r.done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		r.done <- nil
	})
	return r
}

var local = people{cache.User{Name: "local", Role: cache.Operator}}

// client is a bare connection.
type client struct {
	t  testing.TB
	nc net.Conn
	w  *Writer
	r  *Reader
}

func (r *rig) dial(t testing.TB) *client {
	t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, nc)
}

func newClient(t testing.TB, nc net.Conn) *client {
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(2 * time.Minute))
	return &client{t, nc, NewWriter(nc, 2), NewReader(nc, Limits{Bulk: 64 << 20})}
}

func (c *client) send(line string) {
	c.t.Helper()
	c.w.Command(strings.Fields(line)...)
	if err := c.w.Flush(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) next() cache.Value {
	c.t.Helper()
	v, err := c.r.Next()
	if err != nil {
		c.t.Fatal(err)
	}
	return v
}

func (c *client) do(line string) string {
	c.t.Helper()
	c.send(line)
	return show(c.next())
}

// show prints a reply on one line.
func show(v cache.Value) string {
	if v.Kind == cache.Err {
		return "-" + v.Str
	}
	b, err := v.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// wire talks in bytes: what was sent, and everything that came back until the server closed or went quiet.
func (r *rig) wire(t testing.TB, in string) string {
	t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := nc.Write([]byte(in)); err != nil {
		t.Fatal(err)
	}
	_ = nc.(*net.TCPConn).CloseWrite()
	out, err := io.ReadAll(nc)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestConversation(t *testing.T) {
	r := start(t, Config{Version: "0.1"}, local)
	for _, tc := range []struct{ in, want string }{
		{"PING\r\n", "+PONG\r\n"},
		{"ping hello\r\nECHO 'a b'\r\n", "$5\r\nhello\r\n$3\r\na b\r\n"},
		{"PING a b\r\n", "-ERR wrong number of arguments for 'ping' command\r\n"},
		{"SELECT 0\r\nSELECT 1\r\nSELECT x\r\n", "+OK\r\n-ERR DB index is out of range: the gateway has database 0 only\r\n-ERR value is not an integer or out of range\r\n"},
		{"QUIT\r\nPING\r\n", "+OK\r\n"},
		{"HELLO 4\r\n", "-NOPROTO unsupported protocol version\r\n"},
		{"HELLO x\r\n", "-ERR Protocol version is not an integer or out of range\r\n"},
		{"HELLO 3 NOSUCH\r\n", "-ERR Syntax error in HELLO option 'NOSUCH'\r\n"},
		{"HELLO 3 SETNAME a\\b\r\nCLIENT GETNAME\r\n", "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.0\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:ID\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n$3\r\na\\b\r\n"},
		{"CACHE.KEY EXPLAIN k\r\nHELLO 3\r\nCACHE.KEY EXPLAIN k\r\n", "$3\r\n1.5\r\n%7\r\n"},
		{"CACHE.SAY hi\r\n", "*4\r\n$5\r\nwords\r\n*1\r\n$2\r\nhi\r\n$3\r\nwho\r\n$5\r\nlocal\r\n"},
		{"CACHE.NOSUCH\r\n", "-ERR unknown command 'CACHE.NOSUCH'; COMMAND DOCS lists the commands\r\n"},
		{"CACHE.UNLINK\r\n", "-NOPERM this gateway does not write: it has no users and no credential for writes; start it with --clusters FILE"},
		{"GET k\r\n", "-ERR GET is not a command of this gateway; data clients connect to the nodes; CACHE.KEY EXPLAIN says what a key is\r\n"},
		{"CONFIG GET save\r\n", "-ERR CONFIG GET is about one node, and this gateway speaks for many; use CACHE.CONFIG DIFF to look, CACHE.CONFIG TEMP to change for a while\r\n"},
		{"ACL WHOAMI\r\nACL LIST\r\n", "$5\r\nlocal\r\n-ERR ACL LIST is not a command of this gateway; its users are in the file that it was started with\r\n"},
		{"CLIENT SETNAME a\r\nCLIENT GETNAME\r\nCLIENT SETINFO LIB-NAME x\r\nCLIENT SETINFO WHAT x\r\n", "+OK\r\n$1\r\na\r\n+OK\r\n-ERR Unrecognized option 'WHAT'\r\n"},
		{"CLIENT SETNAME 'a b'\r\n", "-ERR Client names cannot contain spaces, newlines or special characters.\r\n"},
		{"CLIENT NO-EVICT on\r\nCLIENT NO-TOUCH maybe\r\n", "+OK\r\n-ERR syntax error\r\n"},
		{"CLIENT TRACKING on\r\nCLIENT TRACKING on OPTIN\r\nCLIENT CACHING yes\r\n", "-ERR nothing of this gateway may be cached: its replies say how things are now; turn client-side caching off, or use OPTIN\r\n+OK\r\n-ERR nothing of this gateway may be cached"},
		{"CLIENT REPLY OFF\r\nPING\r\nCACHE.SAY hi\r\nCLIENT REPLY ON\r\nPING\r\n", "+OK\r\n+PONG\r\n"},
		{"CLIENT REPLY SKIP\r\nPING a\r\nPING b\r\n", "$1\r\nb\r\n"},
		{"CLIENT NOSUCH\r\n", "-ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP.\r\n"},
		{"CLIENT KILL ID x\r\nCLIENT KILL SHOE 1\r\nCLIENT KILL 1.2.3.4:5\r\n", "-ERR client-id should be greater than 0\r\n-ERR CLIENT KILL does not know 'SHOE'; use ID, ADDR, LADDR, USER or SKIPME\r\n-ERR No such client\r\n"},
		{"COMMAND INFO ping nosuch\r\n", "*2\r\n*10\r\n$4\r\nping\r\n:-1\r\n*3\r\n+loading\r\n+stale\r\n+fast\r\n:0\r\n:0\r\n:0\r\n*1\r\n+@connection\r\n*0\r\n*0\r\n*0\r\n$-1\r\n"},
		{"COMMAND LIST FILTERBY PATTERN cache.s*\r\n", "*2\r\n$9\r\ncache.say\r\n$11\r\ncache.steps\r\n"},
		{"COMMAND COUNT\r\n", ":21\r\n"},
		{"*1\r\n$99999999\r\n", "-ERR Protocol error: invalid bulk length: 99999999 bytes, at most 16777216\r\n"},
		{"a 'b\r\nPING\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"},
		{"SUBSCRIBE nosuch\r\n", "-ERR there is no channel 'nosuch'; subscribe to cache.jobs, or to cache.job.ID\r\n"},
		{"SUBSCRIBE cache.jobs\r\nPING\r\nECHO x\r\nUNSUBSCRIBE\r\nPING\r\n", "*3\r\n$9\r\nsubscribe\r\n$10\r\ncache.jobs\r\n:1\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n-ERR Can't execute 'echo': only SUBSCRIBE"},
		{"RESET\r\n", "+RESET\r\n"},
	} {
		out := r.wire(t, tc.in)
		if i := strings.Index(out, "$2\r\nid\r\n:"); i >= 0 {
			rest := out[i+9:]
			out = out[:i+9] + "ID" + rest[strings.Index(rest, "\r\n"):]
		}
		if !strings.HasPrefix(out, tc.want) || strings.HasSuffix(tc.want, "\r\n") && !strings.Contains(tc.want, "%7\r\n") && out != tc.want {
			t.Errorf("%q:\n got %q\nwant %q", tc.in, out, tc.want)
		}
	}
}

func TestDocs(t *testing.T) {
	r := start(t, Config{}, local)
	c := r.dial(t)
	c.do("HELLO 3")
	c.send("COMMAND DOCS cache.key cache.wait ping")
	v := c.next()
	want := `{"cache.key":{"summary":"A container for CACHE.KEY commands.","group":"cache","subcommands":{"cache.key|explain":{"summary":"for tests","group":"cache",` +
		`"complexity":"read command; cache.key explain HELP says what bounds it","arguments":[{"name":"key","type":"string","display_text":"key"},` +
		`{"name":"by","type":"oneof","token":"BY","flags":["optional"],"arguments":[{"name":"mem","type":"pure-token","token":"MEM"},{"name":"items","type":"pure-token","token":"ITEMS"}]}]}}},` +
		`"cache.wait":{"summary":"for tests","group":"cache","complexity":"read command; cache.wait HELP says what bounds it"},"ping":{"summary":"Answers PONG, or its argument","group":"connection"}}`
	if got := show(v); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	c.send("COMMAND INFO cache.key|explain cache.key")
	v = c.next()
	if got := show(v); !strings.HasPrefix(got, `[["cache.key|explain",-3,["admin","noscript","readonly"],0,0,0,["@read"],[],[],[]],["cache.key",-2,[],0,0,0,[],[],[],[["cache.key|explain"`) {
		t.Errorf("got %s", got)
	}
	c.send("COMMAND")
	if n := len(c.next().Items); n != 21 {
		t.Errorf("COMMAND lists %d", n)
	}
	c.send("INFO server clients")
	if got := c.next().Str; !strings.Contains(got, "server_name:kernwave-cache\r\n") || !strings.Contains(got, "connected_clients:1\r\n") || strings.Contains(got, "# Stats") {
		t.Errorf("INFO: %s", got)
	}
	if err := r.gw.Registry.Put(&cache.Command{Name: "CACHE.X.NEW", Class: cache.Read, Summary: "loaded", Run: func(context.Context, *cache.Call) (cache.Value, error) { return cache.OK, nil }}); err != nil {
		t.Fatal(err)
	}
	if got := c.do("COMMAND DOCS cache.x.new"); !strings.Contains(got, "loaded") {
		t.Errorf("a command that was loaded meanwhile: %s", got)
	}
	if got := c.do("CACHE.X.NEW"); got != `"OK"` {
		t.Errorf("and called: %s", got)
	}
}

func TestLogin(t *testing.T) {
	r := start(t, Config{}, people{})
	c := r.dial(t)
	for _, tc := range []struct{ in, want string }{
		{"PING", "-NOAUTH Authentication required; AUTH USER SECRET first"},
		{"CACHE.SAY hi", "-NOAUTH Authentication required"},
		{"HELLO 3", "-NOAUTH HELLO must be called with the client already authenticated"},
		{"AUTH ada wrong", "-WRONGPASS invalid username-password pair"},
		{"AUTH ada", "-WRONGPASS invalid username-password pair"},
		{"HELLO 3 AUTH ada wrong SETNAME x", "-WRONGPASS invalid username-password pair"},
		{"HELLO 3 AUTH ada ada SETNAME x", "{"},
		{"CLIENT GETNAME", `"x"`},
		{"ACL WHOAMI", `"ada"`},
		{"CACHE.SAY hi", `{"words":["hi"],"who":"ada"}`},
		{"AUTH bob bob", `"OK"`},
		{"ACL WHOAMI", `"bob"`},
		{"RESET", `"RESET"`},
		{"PING", "-NOAUTH"},
	} {
		if got := c.do(tc.in); !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s: %s, want %s", tc.in, got, tc.want)
		}
	}
}

// TestStrangersAreBounded: before a login, nobody makes the gateway hold much.
func TestStrangersAreBounded(t *testing.T) {
	r := start(t, Config{}, people{})
	for in, want := range map[string]string{
		"*11\r\n":                        "-ERR Protocol error: invalid multibulk length: 11 arguments, at most 10\r\n",
		"*1\r\n$16385\r":                 "",
		"*2\r\n$4\r\nAUTH\r\n$16385\r\n": "-ERR Protocol error: invalid bulk length: 16385 bytes, at most 16384\r\n",
	} {
		if got := r.wire(t, in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	c := r.dial(t)
	for i := range maxFails {
		if got := c.do("AUTH vi no"); !strings.HasPrefix(got, "-WRONGPASS") {
			t.Fatalf("attempt %d: %s", i, got)
		}
	}
	c.w.Command("PING")
	_ = c.w.Flush()
	if _, err := c.r.Next(); err == nil {
		t.Errorf("still open after %d failed logins", maxFails)
	}
}

func TestPipelineKeepsOrder(t *testing.T) {
	r := start(t, Config{}, local)
	c := r.dial(t)
	const n = 5000
	go func() {
		w := NewWriter(c.nc, 2)
		for i := range n {
			if i%7 == 0 {
				w.Command("CACHE.SAY", strconv.Itoa(i))
			} else {
				w.Command("ECHO", strconv.Itoa(i))
			}
		}
		_ = w.Flush()
	}()
	for i := range n {
		v := c.next()
		if i%7 == 0 {
			v = v.Get("words").Items[0]
		}
		if v.Str != strconv.Itoa(i) {
			t.Fatalf("reply %d is %s", i, show(v))
		}
	}
}

// TestLeavingCancels: the handler's context ends within 100 ms of the client's leaving, however much it has sent
// meanwhile.
func TestLeavingCancels(t *testing.T) {
	r := start(t, Config{ReadAhead: 64 << 10}, local)
	for _, tc := range []struct {
		name  string
		ahead int
		leave func(nc net.Conn)
	}{
		{"closed", 0, func(nc net.Conn) { _ = nc.Close() }},
		{"reset", 0, func(nc net.Conn) { _ = nc.(*net.TCPConn).SetLinger(0); _ = nc.Close() }},
		{"closed after more commands", 10 << 10, func(nc net.Conn) { _ = nc.Close() }},
		{"closed after more than is read ahead", 96 << 10, func(nc net.Conn) { _ = nc.Close() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := r.dial(t)
			c.send("CACHE.WAIT")
			<-r.began
			if tc.ahead > 0 {
				_, _ = c.nc.Write(bytes.Repeat([]byte("PING\r\n"), tc.ahead/6))
				time.Sleep(50 * time.Millisecond)
			}
			left := time.Now()
			tc.leave(c.nc)
			select {
			case s := <-r.ended:
				if !errors.Is(s.cause, errGone) {
					t.Errorf("cancelled because %v", s.cause)
				}
				if d := s.at.Sub(left); d > 100*time.Millisecond {
					t.Logf("took %v on this machine; the watcher asks every 20 ms", d)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("not cancelled")
			}
		})
	}
}

func TestPipelineBehindALongCommand(t *testing.T) {
	r := start(t, Config{ReadAhead: 32 << 10}, local)
	a, b := r.dial(t), r.dial(t)
	id := a.do("CLIENT ID")
	a.send("CACHE.WAIT")
	<-r.began
	if got := b.do("CLIENT KILL ID " + id); got != "1" {
		t.Fatalf("CLIENT KILL: %s", got)
	}
	if s := <-r.ended; !errors.Is(s.cause, errKilled) {
		t.Errorf("cancelled because %v", s.cause)
	}
	// More than is read ahead, behind a command that takes a while: all of it is answered, in order.
	c := r.dial(t)
	var in bytes.Buffer
	in.WriteString("CACHE.STEPS\r\n")
	for i := range 20000 {
		fmt.Fprintf(&in, "ECHO %d\r\n", i)
	}
	go func() { _, _ = c.nc.Write(in.Bytes()) }()
	if got := show(c.next()); got != `"OK"` {
		t.Fatal(got)
	}
	for i := range 20000 {
		if got := c.next().Str; got != strconv.Itoa(i) {
			t.Fatalf("reply %d is %s", i, got)
		}
	}
}

// TestSlowReader: a client that does not read is cut off, and costs no memory meanwhile.
func TestSlowReader(t *testing.T) {
	r := start(t, Config{WriteTimeout: 200 * time.Millisecond}, local)
	c := r.dial(t)
	c.send("CACHE.BIG 200")
	end := time.Now().Add(10 * time.Second)
	for len(r.srv.open()) > 0 {
		if time.Now().After(end) {
			t.Fatal("the connection is still open")
		}
		time.Sleep(10 * time.Millisecond)
	}
	d := r.dial(t)
	if got := d.do("PING"); got != `"PONG"` {
		t.Errorf("another client: %s", got)
	}
	d.send("CACHE.BIG 8") // a reader that keeps up gets it all
	if v := d.next(); len(v.Items) != 8 || len(v.Items[7].Str) != 1<<20 {
		t.Errorf("a large reply came in %d pieces", len(v.Items))
	}
}

func TestLimitsOfConnections(t *testing.T) {
	r := start(t, Config{MaxConns: 2, IdleTimeout: 300 * time.Millisecond}, local)
	a, b := r.dial(t), r.dial(t)
	a.do("PING")
	b.do("PING")
	c := r.dial(t)
	if v, err := c.r.Next(); err != nil || !strings.HasPrefix(v.Str, "ERR max number of clients reached") {
		t.Errorf("the third: %s, %v", show(v), err)
	}
	if _, err := c.r.Next(); err == nil {
		t.Error("the third is still open")
	}
	if got := a.do("SUBSCRIBE cache.jobs"); !strings.Contains(got, "subscribe") { // subscribers wait for ever
		t.Fatal(got)
	}
	if _, err := b.r.Next(); err == nil {
		t.Error("an idle connection got something")
	}
	if got := a.do("PING"); got != `["pong",""]` {
		t.Errorf("a subscriber: %s", got)
	}
}

func TestPanicIsOneReply(t *testing.T) {
	r := start(t, Config{}, local)
	c := r.dial(t)
	if got := c.do("CACHE.PANIC"); !strings.HasPrefix(got, "-ERR CACHE.PANIC failed in a way it should not") {
		t.Error(got)
	}
	if got := c.do("PING"); got != `"PONG"` {
		t.Error(got)
	}
}

func TestProgress(t *testing.T) {
	r := start(t, Config{}, local)
	sub2, sub3, c := r.dial(t), r.dial(t), r.dial(t)
	sub3.do("HELLO 3")
	sub2.do("SUBSCRIBE cache.jobs")
	sub3.do("SUBSCRIBE cache.job.j-1")
	c.do("HELLO 3")
	c.send("CACHE.STEPS")
	for i := range 3 {
		if v := c.next(); v.Kind != cache.Push || show(v) != fmt.Sprintf(`["cache.progress",{"job":"j-1","done":%d}]`, i) {
			t.Fatalf("progress %d: %+v", i, v)
		}
		if v := sub2.next(); v.Kind != cache.Array || v.Items[1].Str != "cache.jobs" || v.Items[2].Str != fmt.Sprintf(`{"job":"j-1","done":%d}`, i) {
			t.Fatalf("RESP2 subscriber: %s", show(v))
		}
		if v := sub3.next(); v.Kind != cache.Push || v.Items[1].Str != "cache.job.j-1" {
			t.Fatalf("RESP3 subscriber: %s", show(v))
		}
	}
	if got := show(c.next()); got != `"OK"` {
		t.Error(got)
	}
	d := r.dial(t) // in RESP2 nothing comes but the reply
	if got := d.do("CACHE.STEPS"); got != `"OK"` {
		t.Error(got)
	}
	if got := sub3.do("PING"); !strings.Contains(got, "message") && got != `"PONG"` { // other commands are allowed in RESP3
		t.Error(got)
	}
}

// TestSlowSubscriber: who does not read its messages is disconnected; the one who publishes never waits.
func TestSlowSubscriber(t *testing.T) {
	r := start(t, Config{}, local)
	c := r.dial(t)
	c.do("SUBSCRIBE cache.jobs")
	v := cache.Dict("job", cache.String("j"), "text", cache.String(strings.Repeat("x", 64<<10)))
	for range 3 * pushQueue {
		r.srv.Tell(v)
	}
	end := time.Now().Add(20 * time.Second)
	for len(r.srv.open()) > 0 {
		if time.Now().After(end) {
			t.Fatal("the subscriber is still connected")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestClientsOfOthers(t *testing.T) {
	r := start(t, Config{}, people{})
	ada, bob, vi := r.dial(t), r.dial(t), r.dial(t)
	ada.do("AUTH ada ada")
	bob.do("AUTH bob bob")
	vi.do("AUTH vi iv")
	id := bob.do("CLIENT ID")
	vi.send("CLIENT LIST")
	if got := vi.next().Str; strings.Count(got, "\n") != 1 || !strings.Contains(got, "user=vi ") {
		t.Errorf("a viewer sees %s", got)
	}
	if got := vi.do("CLIENT KILL ID " + id); got != "0" {
		t.Errorf("a viewer kills %s", got)
	}
	ada.send("CLIENT LIST")
	if got := ada.next().Str; strings.Count(got, "\n") != 3 {
		t.Errorf("an admin sees %s", got)
	}
	ada.send("CLIENT LIST ID " + id)
	if got := ada.next().Str; strings.Count(got, "\n") != 1 || !strings.Contains(got, "user=bob ") {
		t.Errorf("an admin asks for one and sees %s", got)
	}
	if got := ada.do("CLIENT KILL USER bob"); got != "1" {
		t.Errorf("an admin kills %s", got)
	}
	if _, err := bob.r.Next(); err == nil {
		t.Error("bob is still connected")
	}
	if got := ada.do("CLIENT KILL USER ada SKIPME no"); got != "1" {
		t.Errorf("and themself: %s", got)
	}
	if _, err := ada.r.Next(); err == nil {
		t.Error("ada is still connected")
	}
}

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}},
		&x509.Certificate{SerialNumber: big.NewInt(1)}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestTLS(t *testing.T) {
	r := start(t, Config{TLS: &tls.Config{Certificates: []tls.Certificate{certificate(t)}}}, local)
	nc, err := tls.Dial("tcp", r.addr, &tls.Config{InsecureSkipVerify: true}) // what is tested is not who the server is
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, nc)
	if got := c.do("CACHE.SAY hi"); !strings.Contains(got, "local") {
		t.Error(got)
	}
	for range 20 { // a deadline ends each read-ahead: the connection must survive that
		if got := c.do("CACHE.SAY hi"); !strings.Contains(got, "local") {
			t.Fatal(got)
		}
	}
	c.send("CACHE.WAIT")
	<-r.began
	_ = nc.Close()
	if s := <-r.ended; !errors.Is(s.cause, errGone) {
		t.Errorf("cancelled because %v", s.cause)
	}
	if got := r.wire(t, "PING\r\n"); strings.Contains(got, "PONG") {
		t.Errorf("without TLS: %q", got)
	}
	if _, err := NewServer(Config{TLS: &tls.Config{}, MaxConns: -1}, r.gw, slog.Default()); err == nil || !strings.Contains(err.Error(), "no certificate") || !strings.Contains(err.Error(), "max_conns") {
		t.Errorf("a server without a certificate: %v", err)
	}
}

// TestStopEndsEverything: stopping the server cancels what runs and closes every connection.
func TestStopEndsEverything(t *testing.T) {
	r := start(t, Config{}, local)
	var cs []*client
	for range 20 {
		c := r.dial(t)
		c.send("CACHE.WAIT")
		<-r.began
		cs = append(cs, c)
	}
	r.stop()
	err := <-r.done
	r.done <- err
	if err != nil {
		t.Error(err)
	}
	for range cs {
		<-r.ended
	}
}

// TestCancelledCallsLeakNothing is the small version of BenchmarkCancel.
func TestCancelledCallsLeakNothing(t *testing.T) { cancelMany(t, 2000) }

func cancelMany(t testing.TB, n int) {
	r := start(t, Config{}, local)
	c := r.dial(t)
	c.do("PING")
	before := runtime.NumGoroutine()
	for range n {
		nc, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Write([]byte("CACHE.WAIT\r\n")); err != nil {
			t.Fatal(err)
		}
		<-r.began
		_ = nc.(*net.TCPConn).SetLinger(0) // no thousands of sockets in TIME_WAIT
		_ = nc.Close()
		<-r.ended
	}
	end := time.Now().Add(10 * time.Second)
	for len(r.srv.open()) > 1 || runtime.NumGoroutine() > before+2 {
		if time.Now().After(end) {
			t.Fatalf("%d connections and %d goroutines are left, %d before", len(r.srv.open()), runtime.NumGoroutine(), before)
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = c.nc.SetDeadline(time.Now().Add(30 * time.Second)) // a hundred thousand take longer than it had
	if got := c.do("PING"); got != `"PONG"` {
		t.Error(got)
	}
}

// BenchmarkCancel: -benchtime=100000x for the long figure.
func BenchmarkCancel(b *testing.B) { cancelMany(b, b.N) }

func BenchmarkPing(b *testing.B) {
	for _, pipeline := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("P%d", pipeline), func(b *testing.B) {
			r := start(b, Config{}, local)
			c := r.dial(b)
			in := bytes.Repeat([]byte("*1\r\n$4\r\nPING\r\n"), pipeline)
			out := make([]byte, 7*pipeline)
			b.ReportAllocs()
			for i := 0; i < b.N; i += pipeline {
				if _, err := c.nc.Write(in); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c.nc, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
