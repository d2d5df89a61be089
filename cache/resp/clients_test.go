package resp

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

// TestRedisCLI: redis-cli as Debian packages it, in both protocols.
func TestRedisCLI(t *testing.T) {
	path, err := exec.LookPath("redis-cli")
	if err != nil {
		t.Skip("skipped: there is no redis-cli (apt-get install redis-tools)")
	}
	r := start(t, Config{}, people{})
	host, port, _ := strings.Cut(r.addr, ":")
	run := func(in string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, append([]string{"-h", host, "-p", port}, args...)...)
		cmd.Stdin = strings.NewReader(in)
		out, err := cmd.CombinedOutput()
		if err != nil && ctx.Err() != nil {
			t.Fatalf("redis-cli %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	login := []string{"--user", "ada", "--pass", "ada", "--no-auth-warning"}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{append(login, "PING"), "PONG\n"},
		{append(login, "-3", "PING"), "PONG\n"},
		{append(login, "CACHE.SAY", "hello", "a b"), "words\nhello\na b\nwho\nada\n"},
		{append(login, "-3", "--json", "CACHE.SAY", "hello"), `{"words":["hello"],"who":"ada"}` + "\n"},
		{append(login, "--no-raw", "-3", "CACHE.SAY", "hello"), "1# \"words\" => 1) \"hello\"\n2# \"who\" => \"ada\"\n"},
		{append(login, "CACHE.KEY", "EXPLAIN", "k"), "1.5\n"},
		{append(login, "-e", "CACHE.UNLINK"), "NOPERM this gateway does not write"},
		{[]string{"CACHE.SAY", "x"}, "NOAUTH Authentication required"},
		{append(login, "-3", "CACHE.STEPS"), "OK\n"},
	} {
		if got := run("", tc.args...); !strings.Contains(got, tc.want) {
			t.Errorf("redis-cli %q: %q, want %q", tc.args, got, tc.want)
		}
	}
	// From a pipe redis-cli keeps one connection, as people do at its prompt.
	if got := run("PING\nCLIENT GETNAME\nCOMMAND COUNT\nCACHE.SAY x\nINFO server\n", login...); !strings.Contains(got, "PONG") || !strings.Contains(got, "21\n") || !strings.Contains(got, "server_name:kernwave-cache") {
		t.Errorf("one connection: %q", got)
	}
}

// TestRueidis: with its defaults, which is RESP3 and client-side caching, and in RESP2.
func TestRueidis(t *testing.T) {
	r := start(t, Config{}, people{})
	for _, opt := range []rueidis.ClientOption{
		{},
		{DisableCache: true},
		{DisableCache: true, AlwaysRESP2: true},
	} {
		opt.InitAddress, opt.Username, opt.Password = []string{r.addr}, "ada", "ada"
		c, err := rueidis.NewClient(opt)
		if err != nil {
			t.Errorf("%+v: %v", opt, err)
			continue
		}
		ctx := t.Context()
		m, err := c.Do(ctx, c.B().Arbitrary("CACHE.SAY").Args("hi").Build()).AsMap()
		if err != nil || len(m) != 2 {
			t.Errorf("CACHE.SAY: %v, %v", m, err)
		}
		for _, res := range c.DoMulti(ctx, c.B().Ping().Build(), c.B().Arbitrary("CACHE.STEPS").Build(), c.B().Ping().Build()) {
			if err := res.Error(); err != nil { // pushes come between these
				t.Error(err)
			}
		}
		err = c.Do(ctx, c.B().Arbitrary("CACHE.UNLINK").Build()).Error()
		if e, ok := rueidis.IsRedisErr(err); !ok || !strings.HasPrefix(e.Error(), "NOPERM") {
			t.Errorf("CACHE.UNLINK: %v", err)
		}
		if !opt.DisableCache {
			if err := c.DoCache(ctx, c.B().Get().Key("k").Cache(), time.Minute).Error(); err == nil {
				t.Error("a reply was cached, which nothing would ever invalidate")
			}
		}
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		if err := c.Do(short, c.B().Arbitrary("CACHE.WAIT").Build()).Error(); err == nil {
			t.Error("CACHE.WAIT returned")
		}
		cancel()
		c.Close()
		<-r.ended // its connection was closed
	}
}

// TestGoRedis: with its defaults, which is RESP3, and in RESP2.
func TestGoRedis(t *testing.T) {
	r := start(t, Config{}, people{})
	for _, proto := range []int{0, 2, 3} {
		c := redis.NewClient(&redis.Options{Addr: r.addr, Username: "ada", Password: "ada", Protocol: proto})
		ctx := t.Context()
		if err := c.Ping(ctx).Err(); err != nil {
			t.Errorf("protocol %d: %v", proto, err)
			continue
		}
		if v, err := c.Do(ctx, "CACHE.SAY", "hi").Result(); err != nil {
			t.Errorf("protocol %d: %v, %v", proto, v, err)
		}
		if v, err := c.Do(ctx, "CACHE.STEPS").Result(); err != nil || v != "OK" { // pushes come before this reply
			t.Errorf("protocol %d: CACHE.STEPS: %v, %v", proto, v, err)
		}
		if err := c.Do(ctx, "CACHE.UNLINK").Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("protocol %d: CACHE.UNLINK: %v", proto, err)
		}
		infos, err := c.Command(ctx).Result()
		if err != nil || infos["cache.say"] == nil || infos["cache.say"].Arity != -2 {
			t.Errorf("protocol %d: COMMAND: %v, %v", proto, infos["cache.say"], err)
		}
		sub := c.Subscribe(ctx, "cache.jobs")
		if _, err := sub.Receive(ctx); err != nil {
			t.Errorf("protocol %d: SUBSCRIBE: %v", proto, err)
		}
		go c.Do(ctx, "CACHE.STEPS")
		m, err := sub.ReceiveMessage(ctx)
		if err != nil || m.Payload != `{"job":"j-1","done":0}` {
			t.Errorf("protocol %d: a message: %+v, %v", proto, m, err)
		}
		_ = sub.Close()
		_ = c.Close()
	}
}
