package resp

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kernwave/kernwave/cache"
)

func clientCommand(c *conn, args [][]byte) {
	sub := strings.ToUpper(string(args[1]))
	rest := make([]string, 0, len(args)-2)
	for _, a := range args[2:] {
		rest = append(rest, string(a))
	}
	need := func(n int) bool {
		if len(rest) == n {
			return true
		}
		c.w.Errorf("ERR wrong number of arguments for 'client|%s' command", strings.ToLower(sub))
		return false
	}
	switch sub {
	case "ID":
		if need(0) {
			c.w.Int(c.id)
		}
	case "GETNAME":
		if need(0) {
			if c.state.name == "" {
				c.w.Null()
			} else {
				c.w.Bulk(c.state.name)
			}
		}
	case "SETNAME":
		if need(1) && c.nameIs(rest[0], func(s *state) { s.name = rest[0] }) {
			c.w.Simple("OK")
		}
	case "SETINFO":
		if need(2) {
			c.setInfo(rest[0], rest[1])
		}
	case "INFO":
		if need(0) {
			c.w.Bulk(c.line() + "\n")
		}
	case "LIST":
		c.list(rest)
	case "KILL":
		c.kill(rest)
	case "NO-EVICT", "NO-TOUCH":
		if need(1) {
			c.onOff(rest[0])
		}
	case "REPLY":
		if need(1) {
			c.replyMode(rest[0])
		}
	case "TRACKING":
		c.tracking(rest)
	case "CACHING":
		c.w.Error("ERR nothing of this gateway may be cached: its replies say how things are now; turn client-side caching off for these calls")
	case "TRACKINGINFO":
		c.w.Map(3)
		c.w.Bulk("flags")
		c.w.Set(1)
		c.w.Bulk("off")
		c.w.Bulk("redirect")
		c.w.Int(-1)
		c.w.Bulk("prefixes")
		c.w.Array(0)
	case "GETREDIR":
		c.w.Int(-1)
	case "HELP":
		lines := []string{
			"CLIENT ID | INFO | GETNAME | SETNAME name | SETINFO LIB-NAME|LIB-VER value",
			"CLIENT LIST [ID id …]",
			"CLIENT KILL [ID id] [ADDR host:port] [USER name] [SKIPME yes|no]",
			"CLIENT REPLY ON|OFF|SKIP",
		}
		c.w.Array(len(lines))
		for _, l := range lines {
			c.w.Simple(l)
		}
	default:
		c.w.Errorf("ERR unknown subcommand '%s'. Try CLIENT HELP.", clip(string(args[1])))
	}
}

func (c *conn) nameIs(name string, set func(*state)) bool {
	if !nameable(name) {
		c.w.Error("ERR Client names cannot contain spaces, newlines or special characters.")
		return false
	}
	c.mu.Lock()
	set(&c.state)
	c.mu.Unlock()
	return true
}

func (c *conn) setInfo(what, value string) {
	var ok bool
	switch strings.ToUpper(what) {
	case "LIB-NAME":
		ok = c.nameIs(value, func(s *state) { s.lib = value })
	case "LIB-VER":
		ok = c.nameIs(value, func(s *state) { s.libVer = value })
	default:
		c.w.Errorf("ERR Unrecognized option '%s'", clip(what))
		return
	}
	if ok {
		c.w.Simple("OK")
	}
}

// onOff accepts what has no meaning here: the gateway evicts no clients and keeps no keys.
func (c *conn) onOff(s string) {
	if !strings.EqualFold(s, "on") && !strings.EqualFold(s, "off") {
		c.w.Error("ERR syntax error")
		return
	}
	c.w.Simple("OK")
}

func (c *conn) replyMode(s string) {
	switch strings.ToUpper(s) {
	case "ON":
		c.reply, c.w.mute = replyOn, false
		c.w.Simple("OK")
	case "OFF":
		c.reply, c.w.mute = replyOff, true
	case "SKIP":
		if c.reply == replyOn {
			c.reply, c.w.mute = replySkipNext, true
		}
	default:
		c.w.Error("ERR syntax error")
	}
}

// tracking accepts OPTIN, which some client libraries ask for when they connect: it promises something only after
// CLIENT CACHING YES, and that is refused. The other modes promise at once, so they are refused themselves.
func (c *conn) tracking(rest []string) {
	has := func(word string) bool {
		return slices.ContainsFunc(rest, func(s string) bool { return strings.EqualFold(s, word) })
	}
	switch {
	case len(rest) == 0:
		c.w.Error("ERR wrong number of arguments for 'client|tracking' command")
	case strings.EqualFold(rest[0], "off"), strings.EqualFold(rest[0], "on") && has("OPTIN") && !has("BCAST"):
		c.w.Simple("OK")
	case strings.EqualFold(rest[0], "on"):
		c.w.Error("ERR nothing of this gateway may be cached: its replies say how things are now; turn client-side caching off, or use OPTIN")
	default:
		c.w.Error("ERR syntax error")
	}
}

// line describes the connection as CLIENT LIST does in Redis, so that tools can read it.
func (c *conn) line() string {
	c.mu.Lock()
	s := c.state
	subs := len(s.channels)
	c.mu.Unlock()
	now := c.srv.cfg.Now()
	flags := "N"
	if subs > 0 {
		flags = "P"
	}
	return fmt.Sprintf("id=%d addr=%s laddr=%s fd=-1 name=%s age=%d idle=%d flags=%s db=0 sub=%d psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=%s user=%s redir=-1 resp=%d lib-name=%s lib-ver=%s",
		c.id, c.nc.RemoteAddr(), c.nc.LocalAddr(), s.name, int(now.Sub(c.born).Seconds()), int(now.Sub(s.active).Seconds()),
		flags, subs, cmp.Or(s.cmd, "NULL"), s.user.Name, s.proto, s.lib, s.libVer)
}

// sees says whether c's user may look at o and close it: an admin every one, others their own.
func (c *conn) sees(o *conn) bool {
	if c == o || c.state.user.Role == cache.Admin {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state.known && o.state.user == c.state.user
}

// visible returns the connections that c's user may see, by id.
func (c *conn) visible() []*conn {
	list := slices.DeleteFunc(c.srv.open(), func(o *conn) bool { return !c.sees(o) })
	slices.SortFunc(list, func(a, b *conn) int { return cmp.Compare(a.id, b.id) })
	return list
}

func (c *conn) list(rest []string) {
	var ids []int64
	for i := 0; i < len(rest); i++ {
		switch {
		case strings.EqualFold(rest[i], "TYPE") && i+1 < len(rest):
			i++
			if t := strings.ToLower(rest[i]); t != "normal" && t != "pubsub" && t != "master" && t != "replica" {
				c.w.Errorf("ERR Unknown client type '%s'", clip(rest[i]))
				return
			}
		case strings.EqualFold(rest[i], "ID") && i+1 < len(rest):
			for _, s := range rest[i+1:] {
				id, err := strconv.ParseInt(s, 10, 64)
				if err != nil {
					c.w.Error("ERR Invalid client ID")
					return
				}
				ids = append(ids, id)
			}
			i = len(rest)
		default:
			c.w.Error("ERR syntax error")
			return
		}
	}
	var b strings.Builder
	for _, o := range c.visible() {
		if len(ids) == 0 || slices.Contains(ids, o.id) {
			b.WriteString(o.line())
			b.WriteByte('\n')
		}
	}
	c.w.Verbatim("txt", b.String())
}

// kill is CLIENT KILL host:port, or CLIENT KILL with filters; it closes what matches all of them.
func (c *conn) kill(rest []string) {
	if len(rest) == 1 {
		if c.killWhere(func(o *conn) bool { return o.nc.RemoteAddr().String() == rest[0] }) > 0 {
			c.w.Simple("OK")
		} else {
			c.w.Error("ERR No such client")
		}
		return
	}
	if len(rest) == 0 || len(rest)%2 != 0 {
		c.w.Error("ERR syntax error")
		return
	}
	var tests []func(*conn) bool
	skipMe := true
	for i := 0; i < len(rest); i += 2 {
		v := rest[i+1]
		switch strings.ToUpper(rest[i]) {
		case "ID":
			id, err := strconv.ParseInt(v, 10, 64)
			if err != nil || id <= 0 {
				c.w.Error("ERR client-id should be greater than 0")
				return
			}
			tests = append(tests, func(o *conn) bool { return o.id == id })
		case "ADDR":
			tests = append(tests, func(o *conn) bool { return o.nc.RemoteAddr().String() == v })
		case "LADDR":
			tests = append(tests, func(o *conn) bool { return o.nc.LocalAddr().String() == v })
		case "USER":
			tests = append(tests, func(o *conn) bool {
				o.mu.Lock()
				defer o.mu.Unlock()
				return o.state.user.Name == v
			})
		case "SKIPME":
			if !strings.EqualFold(v, "yes") && !strings.EqualFold(v, "no") {
				c.w.Error("ERR syntax error")
				return
			}
			skipMe = strings.EqualFold(v, "yes")
		default:
			c.w.Errorf("ERR CLIENT KILL does not know '%s'; use ID, ADDR, LADDR, USER or SKIPME", clip(rest[i]))
			return
		}
	}
	c.w.Int(int64(c.killWhere(func(o *conn) bool {
		return !(skipMe && o == c) && !slices.ContainsFunc(tests, func(t func(*conn) bool) bool { return !t(o) })
	})))
}

func (c *conn) killWhere(match func(*conn) bool) (n int) {
	for _, o := range c.visible() {
		if !match(o) {
			continue
		}
		n++
		if o == c {
			c.closing = true // once the reply is written
			continue
		}
		o.killed.Store(true)
		o.close()
	}
	return n
}
