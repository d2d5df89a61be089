// Command demo shows the cache gateway at work: it starts a cluster, a group with Sentinels and a single server, all real
// and on loopback, sends traffic to them, runs a gateway, and calls it. It ends by itself and leaves nothing behind.
//
//	go run ./cache/cachetest/demo bin/kernwave
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache/cachetest"
	"github.com/kernwave/kernwave/cache/upstream"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "demo: name the kernwave program: go run ./cache/cachetest/demo bin/kernwave")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "demo: error:", err)
		os.Exit(1)
	}
}

// stage is what the demo plays on.
type stage struct {
	house    *cachetest.Process
	kernwave string
	dir      string
	gateway  string
	redis    cachetest.Version
}

func run(kernwave string) (err error) {
	house := cachetest.NewProcess()
	defer house.Close()
	defer func() {
		if p := recover(); p != nil { // how cachetest says that a server does not start
			err = fmt.Errorf("%v", p)
		}
	}()
	all := cachetest.Versions()
	if len(all) == 0 {
		return fmt.Errorf("there is no Redis on this machine; next: make setup")
	}
	// The newest Redis for the cluster, the newest of all (Valkey, where it is) beside it, the host's own for the single one.
	newest := all[len(all)-1]
	redis := all[0]
	for _, v := range all {
		if !v.Valkey {
			redis = v
		}
	}
	s := &stage{house: house, kernwave: kernwave, dir: house.TempDir(), redis: all[0]}
	say("starting a cluster of 3 shards (%s), a group with 3 Sentinels (%s) and a single server (%s)", redis.Full, newest.Name+" "+newest.Full, all[0].Full)
	c := cachetest.StartCluster(house, redis, 3, 1)
	g := cachetest.StartSentinel(house, newest, "orders", 1, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
	one := cachetest.Start(house, all[0])
	say("filling them and sending traffic")
	fillCluster(c)
	fillOrders(g.Primary)
	one.Fill(func(send func(...string)) {
		for i := range 2000 {
			send("SET", fmt.Sprintf("flag:%d", i), "on")
		}
	})
	loads := traffic(c, g.Primary)
	defer func() {
		for _, l := range loads {
			l.Stop()
		}
	}()
	c.Replicas[1][0].Must("CONFIG", "SET", "hz", "50") // somebody's forgotten experiment
	if err := s.serve(c.Primaries[0].Addr(), g.Sentinels[0].Addr(), one.Addr()); err != nil {
		return err
	}
	return s.show()
}

func fillCluster(c *cachetest.Cluster) {
	byPrimary := make([][][]string, len(c.Primaries))
	put := func(args ...string) {
		slot := upstream.Slot(args[1])
		for i := range c.Primaries {
			if slot < (i+1)*16384/len(c.Primaries) {
				byPrimary[i] = append(byPrimary[i], args)
				return
			}
		}
	}
	for i := range 30_000 {
		put("SET", fmt.Sprintf("session:%d", i), strings.Repeat("s", 100+i%400), "EX", "3600")
		if i%5 == 0 {
			put("HSET", fmt.Sprintf("user:%d", i), "name", "n", "mail", strings.Repeat("m", 40), "city", "c")
		}
	}
	big := []string{"RPUSH", "feed:home"}
	for range 20_000 {
		big = append(big, strings.Repeat("p", 60))
	}
	put(big...)
	for i, p := range c.Primaries {
		p.Fill(func(send func(...string)) {
			for _, args := range byPrimary[i] {
				send(args...)
			}
		})
	}
}

func fillOrders(p *cachetest.Server) {
	p.Fill(func(send func(...string)) {
		for i := range 20_000 {
			args := []string{"SET", fmt.Sprintf("order:%d", i), strings.Repeat("o", 200)}
			if i%3 != 0 {
				args = append(args, "EX", "86400")
			}
			send(args...)
		}
	})
}

func traffic(c *cachetest.Cluster, orders *cachetest.Server) []*cachetest.Load {
	z := cachetest.NewZipf(5000, 0.99)
	var loads []*cachetest.Load
	for i, p := range c.Primaries {
		// Keys that this primary holds.
		var own []string
		for k := 0; len(own) < 5000; k++ {
			key := fmt.Sprintf("session:%d", k)
			slot := upstream.Slot(key)
			if slot >= i*16384/len(c.Primaries) && slot < (i+1)*16384/len(c.Primaries) {
				own = append(own, key)
			}
		}
		loads = append(loads, p.Traffic(1500, z, func(rank int) string { return own[rank] }))
	}
	return append(loads, orders.Traffic(1500, z, func(rank int) string { return fmt.Sprintf("order:%d", rank) }))
}

// serve writes the gateway's files and starts it.
func (s *stage) serve(cluster, sentinel, one string) error {
	type user struct {
		Name   string `json:"name"`
		Role   string `json:"role"`
		Secret string `json:"secret_sha256"`
	}
	var users []user
	for name, role := range map[string]string{"ada": "admin", "bob": "operator"} {
		secret := fmt.Sprintf("%x", rand.Uint64())
		users = append(users, user{name, role, fmt.Sprintf("%x", sha256.Sum256([]byte(secret)))})
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(secret), 0o600); err != nil {
			return err
		}
	}
	b, err := json.Marshal(map[string]any{"users": users})
	if err != nil {
		return err
	}
	// 15 s for an answer: this machine runs all the servers, and whatever else.
	conf := fmt.Sprintf(`users: users.json
state: state
record: record.jsonl
clusters:
- {name: shop, seeds: [%q], write_user: default, write_password_file: none, timeout: 15s}
- {name: orders, seeds: [%q], group: orders, timeout: 15s}
- {name: flags, seeds: [%q], timeout: 15s}
`, cluster, sentinel, one)
	for name, text := range map[string]string{"users.json": string(b), "cache.yaml": conf, "none": ""} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	ready := filepath.Join(s.dir, "ready")
	gw := exec.Command(s.kernwave, "cache", "serve", "--clusters", filepath.Join(s.dir, "cache.yaml"), "--listen", "127.0.0.1:0", "--ready-file", ready)
	gw.Env = append(os.Environ(), "PATH="+s.binaries()+":"+os.Getenv("PATH"))
	log, err := os.Create(filepath.Join(s.dir, "gateway.log"))
	if err != nil {
		return err
	}
	gw.Stdout, gw.Stderr = log, log
	if err := gw.Start(); err != nil {
		return err
	}
	s.house.Cleanup(func() {
		_ = gw.Process.Signal(os.Interrupt)
		_ = gw.Wait()
		_ = log.Close()
	})
	for end := time.Now().Add(cachetest.Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if b, err := os.ReadFile(ready); err == nil && strings.HasSuffix(string(b), "\n") {
			s.gateway = strings.TrimSpace(string(b))
			say("the gateway listens on %s; ada is an admin, bob an operator", s.gateway)
			return nil
		}
	}
	text, _ := os.ReadFile(log.Name())
	return fmt.Errorf("the gateway did not come up: %s", text)
}

// binaries is a folder with the host's Redis under the name of its server, for the throwaway server on which a bundle is
// tested: Debian's redis-tools has the program, and not that name.
func (s *stage) binaries() string {
	dir := filepath.Join(s.dir, "bin")
	_ = os.Mkdir(dir, 0o700)
	if path, err := exec.LookPath("redis-check-rdb"); err == nil {
		_ = os.Symlink(path, filepath.Join(dir, "redis-server"))
	}
	return dir
}

// show calls the gateway.
func (s *stage) show() error {
	example := filepath.Join("cache", "script", "examples", "nottl")
	for _, step := range []struct{ who, why, line string }{
		{"bob", "What is there?", "nodes"},
		{"bob", "Which keys are large?", "bigkeys --top 5 --budget 20s"},
		{"bob", "What takes the memory, by prefix, from a sample of a tenth?", "prefix --sample 10 --budget 20s"},
		{"bob", "Which keys are hot?", "hotkeys --top 5 --for 3s"},
		{"bob", "What was slow?", "slow --top 5"},
		{"bob", "How long do commands take?", "latency --for 2s --top 5 --on role:primary"},
		{"bob", "Who sends what?", "clients --on role:primary"},
		{"bob", "What about this key?", "key explain session:42"},
		{"bob", "What would be evicted?", "eviction explain --on cluster:orders"},
		{"bob", "Where do settings differ?", "config diff --on cluster:shop"},
		{"bob", "A look at the calls, without their values:", "monitor --for 0.2 --maxlines 3 --on cluster:orders"},
		{"ada", "A command of our own: load it,", "cmd put " + example},
		{"ada", "have its tests run against a throwaway server,", "cmd test CACHE.X.NOTTL"},
		{"ada", "let it run,", "cmd promote CACHE.X.NOTTL"},
		{"bob", "and call it: which keys never expire?", "do CACHE.X.NOTTL"},
		{"bob", "A setting for two seconds, which takes itself back:", "config temp set slowlog-max-len 256 --for 2s --reason demo --on cluster:shop"},
		{"bob", "What changes more needs a second person:", "config temp set hz 20 --for 1m --reason demo --on cluster:shop"},
		{"ada", "And what happened, on record:", "audit --top 8"},
	} {
		if err := s.call(step.who, step.why, step.line); err != nil {
			return err
		}
	}
	host, port, _ := strings.Cut(s.gateway, ":")
	secret, err := os.ReadFile(filepath.Join(s.dir, "bob"))
	if err != nil {
		return err
	}
	fmt.Printf("\n# The same through redis-cli, as through any client\n$ redis-cli -3 -p %s --user bob CACHE.NODES ON cluster:flags\n", port)
	cmd := s.redis.CLI("-3", "-h", host, "-p", port, "--user", "bob", "--pass", string(secret), "--no-auth-warning", "CACHE.NODES", "ON", "cluster:flags")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("redis-cli: %w", err)
	}
	return nil
}

// refusedByDesign is the step that must fail.
const refusedByDesign = "config temp set hz"

func (s *stage) call(who, why, line string) error {
	fmt.Printf("\n# %s\n$ kernwave cache %s\n", why, line)
	args := append([]string{"cache", "--gateway", s.gateway, "--user", who, "--token-file", filepath.Join(s.dir, who)}, strings.Fields(line)...)
	cmd := exec.Command(s.kernwave, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	err := cmd.Run()
	if refused := strings.HasPrefix(line, refusedByDesign); refused == (err == nil) {
		return fmt.Errorf("kernwave cache %s: %v", line, err)
	}
	return nil
}

func say(format string, args ...any) { fmt.Printf("# "+format+"\n", args...) }
