package resp

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// infoCommand answers INFO [section …] with what is true of the gateway. Tools that ask for a node's sections get those
// that there are.
func infoCommand(c *conn, args [][]byte) {
	s := c.srv
	up := int64(s.cfg.Now().Sub(s.began).Seconds())
	conns := s.open()
	subs := 0
	for _, o := range conns {
		o.mu.Lock()
		if len(o.state.channels) > 0 {
			subs++
		}
		o.mu.Unlock()
	}
	sections := []struct{ name, text string }{
		{"server", fmt.Sprintf("redis_version:%s\r\nserver_name:kernwave-cache\r\ngateway_version:%s\r\nredis_mode:standalone\r\nos:%s %s\r\nprocess_id:%d\r\nuptime_in_seconds:%d\r\nuptime_in_days:%d\r\n",
			speaksLike, s.cfg.Version, runtime.GOOS, runtime.GOARCH, os.Getpid(), up, up/86400)},
		{"clients", fmt.Sprintf("connected_clients:%d\r\nmaxclients:%d\r\npubsub_clients:%d\r\n", len(conns), s.cfg.MaxConns, subs)},
		{"stats", fmt.Sprintf("total_connections_received:%d\r\ntotal_commands_processed:%d\r\nrejected_connections:%d\r\n", s.ids.Load(), s.served.Load(), s.turned.Load())},
		{"replication", "role:master\r\nconnected_slaves:0\r\n"},
		{"cluster", "cluster_enabled:0\r\n"},
		{"keyspace", ""},
	}
	want := map[string]bool{}
	for _, a := range args[1:] {
		want[strings.ToLower(string(a))] = true
	}
	every := len(want) == 0 || want["all"] || want["everything"] || want["default"]
	var b strings.Builder
	for _, sec := range sections {
		if every || want[sec.name] {
			if b.Len() > 0 {
				b.WriteString("\r\n")
			}
			b.WriteString("# " + strings.ToUpper(sec.name[:1]) + sec.name[1:] + "\r\n" + sec.text)
		}
	}
	c.w.Verbatim("txt", b.String())
}
