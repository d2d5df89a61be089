package resp

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
)

// own is a command of the front end itself: what clients say to any server.
type own struct {
	lower      string
	min, max   int // words, the name included; max 0: no limit
	stranger   bool
	subscribed bool // allowed in protocol 2 while subscribed
	summary    string
	run        func(ctx context.Context, c *conn, args [][]byte)
}

// plain makes a command that needs no context.
func plain(f func(c *conn, args [][]byte)) func(context.Context, *conn, [][]byte) {
	return func(_ context.Context, c *conn, args [][]byte) { f(c, args) }
}

// ownCommands are looked up by every request. They answer at once and with wmu held.
var ownCommands map[string]*own

func init() { // a table that describes itself cannot be its own initial value
	ownCommands = map[string]*own{
		"ACL":         {min: 2, summary: "Says who you are, and which categories there are", run: plain(aclCommand)},
		"AUTH":        {min: 2, max: 3, stranger: true, summary: "Logs in", run: authCommand},
		"CLIENT":      {min: 2, summary: "Looks at connections to this gateway, and at this one", run: plain(clientCommand)},
		"COMMAND":     {min: 1, summary: "Describes the commands of this gateway", run: plain(commandCommand)},
		"CONFIG":      {min: 2, summary: "Refused: says which command to use instead", run: plain(configCommand)},
		"ECHO":        {min: 2, max: 2, summary: "Returns its argument", run: plain(func(c *conn, args [][]byte) { c.w.Bulk(string(args[1])) })},
		"HELLO":       {min: 1, stranger: true, summary: "Chooses the protocol, logs in, names the connection", run: helloCommand},
		"INFO":        {min: 1, summary: "Describes this gateway", run: plain(infoCommand)},
		"PING":        {min: 1, max: 2, subscribed: true, summary: "Answers PONG, or its argument", run: plain(pingCommand)},
		"QUIT":        {min: 1, stranger: true, subscribed: true, summary: "Closes the connection", run: plain(func(c *conn, _ [][]byte) { c.w.Simple("OK"); c.closing = true })},
		"RESET":       {min: 1, max: 1, stranger: true, subscribed: true, summary: "Makes the connection as it was when it was opened", run: plain(resetCommand)},
		"SELECT":      {min: 2, max: 2, summary: "Accepts database 0", run: plain(selectCommand)},
		"SUBSCRIBE":   {min: 2, subscribed: true, summary: "Listens to the progress of jobs: cache.jobs, or cache.job.ID", run: plain(subscribe)},
		"UNSUBSCRIBE": {min: 1, subscribed: true, summary: "Stops listening", run: plain(unsubscribe)},
	}
	for name, o := range ownCommands {
		o.lower = strings.ToLower(name)
	}
}

// notHere says, for commands that people try on a gateway and that are a node's, what to use.
var notHere = map[string]string{
	"MONITOR":    "use CACHE.MONITOR, which is bounded and shows no values",
	"SLOWLOG":    "use CACHE.SLOW, over all nodes at once",
	"LATENCY":    "use CACHE.LATENCY, over all nodes at once",
	"KEYS":       "use CACHE.PREFIX or CACHE.BIGKEYS, which do not stop the nodes",
	"SCAN":       "use CACHE.PREFIX or CACHE.BIGKEYS, which cover all nodes",
	"CLUSTER":    "use CACHE.NODES; data clients connect to the nodes, not to this gateway",
	"MULTI":      "commands of the gateway run on many nodes, and there are no transactions over them",
	"PSUBSCRIBE": "use SUBSCRIBE cache.jobs",
	"EVAL":       "write a command of your own, see CACHE.CMD",
	"FUNCTION":   "write a command of your own, see CACHE.CMD",
	"GET":        "data clients connect to the nodes; CACHE.KEY EXPLAIN says what a key is",
	"SET":        "data clients connect to the nodes; this gateway keeps no data",
	"DEL":        "use CACHE.UNLINK, which shows first what it would do",
	"FLUSHALL":   "use CACHE.UNLINK, which shows first what it would do",
	"FLUSHDB":    "use CACHE.UNLINK, which shows first what it would do",
	"SHUTDOWN":   "stop the gateway where it was started; nodes are moved out of service with CACHE.DRAIN",
}

func pingCommand(c *conn, args [][]byte) {
	if len(c.state.channels) > 0 && c.state.proto == 2 {
		c.w.Array(2)
		c.w.Bulk("pong")
		if len(args) > 1 {
			c.w.Bulk(string(args[1]))
		} else {
			c.w.Bulk("")
		}
		return
	}
	if len(args) > 1 {
		c.w.Bulk(string(args[1]))
		return
	}
	c.w.Simple("PONG")
}

func selectCommand(c *conn, args [][]byte) {
	n, err := strconv.Atoi(string(args[1]))
	switch {
	case err != nil:
		c.w.Error("ERR value is not an integer or out of range")
	case n != 0:
		c.w.Error("ERR DB index is out of range: the gateway has database 0 only")
	default:
		c.w.Simple("OK")
	}
}

func configCommand(c *conn, args [][]byte) {
	switch sub := strings.ToUpper(string(args[1])); sub {
	case "GET", "SET":
		c.w.Errorf("ERR CONFIG %s is about one node, and this gateway speaks for many; use CACHE.CONFIG DIFF to look, CACHE.CONFIG TEMP to change for a while", sub)
	case "REWRITE":
		c.w.Error("ERR CONFIG REWRITE is not allowed through this gateway; a lasting change belongs into the node's file")
	default:
		c.w.Errorf("ERR unknown subcommand '%s' of CONFIG; use CACHE.CONFIG", clip(string(args[1])))
	}
}

func aclCommand(c *conn, args [][]byte) {
	switch strings.ToUpper(string(args[1])) {
	case "WHOAMI":
		c.w.Bulk(c.state.user.Name)
	case "CAT":
		c.w.Array(4)
		for _, class := range []cache.Class{cache.Read, cache.LoadRead, cache.Write, cache.Disruptive} {
			c.w.Bulk(class.String())
		}
	default:
		c.w.Errorf("ERR ACL %s is not a command of this gateway; its users are in the file that it was started with", clip(strings.ToUpper(string(args[1]))))
	}
}

// authCommand logs in. Each failure costs the guesser more time than the one before.
func authCommand(ctx context.Context, c *conn, args [][]byte) {
	name, secret := "default", string(args[len(args)-1])
	if len(args) == 3 {
		name = string(args[1])
	}
	if c.login(ctx, name, secret) {
		c.w.Simple("OK")
	}
}

// maxFails is how many logins a connection may fail.
const maxFails = 10

// login makes the connection name's, or writes why not.
func (c *conn) login(ctx context.Context, name, secret string) bool {
	u, err := c.srv.gw.Users.Login(name, secret)
	if err == nil {
		c.become(u, true)
		c.fails = 0
		return true
	}
	c.fails++
	c.closing = c.fails >= maxFails
	c.srv.log.WarnContext(ctx, "a login failed", "user", clip(name), "peer", c.from, "failed", c.fails)
	_ = c.w.Flush()
	select {
	case <-time.After(min(time.Duration(c.fails-1)*100*time.Millisecond, time.Second)):
	case <-ctx.Done():
	}
	c.w.Value(cache.ErrorValue(err))
	return false
}

func (c *conn) become(u cache.User, known bool) {
	c.mu.Lock()
	c.state.user, c.state.known = u, known
	c.mu.Unlock()
	if known {
		c.q.SetLimits(c.srv.cfg.Limits)
	} else {
		c.q.SetLimits(stranger)
	}
}

func resetCommand(c *conn, _ [][]byte) {
	c.become(c.srv.gw.Users.Default())
	c.mu.Lock()
	c.state.name, c.state.proto = "", 2
	clear(c.state.channels)
	c.mu.Unlock()
	c.reply, c.w.mute, c.w.proto = replyOn, false, 2
	c.w.Simple("RESET")
}

// helloCommand is HELLO [2|3 [AUTH user secret] [SETNAME name]].
func helloCommand(ctx context.Context, c *conn, args [][]byte) {
	proto, name, auth := c.state.proto, "", false
	var user, secret string
	if len(args) > 1 {
		n, err := strconv.Atoi(string(args[1]))
		if err != nil {
			c.w.Error("ERR Protocol version is not an integer or out of range")
			return
		}
		if n != 2 && n != 3 {
			c.w.Error("NOPROTO unsupported protocol version")
			return
		}
		proto = n
	}
	for i := 2; i < len(args); {
		switch left := len(args) - i - 1; {
		case equalFold(args[i], "AUTH") && left >= 2:
			auth, user, secret = true, string(args[i+1]), string(args[i+2])
			i += 3
		case equalFold(args[i], "SETNAME") && left >= 1:
			if name = string(args[i+1]); !nameable(name) {
				c.w.Error("ERR Client names cannot contain spaces, newlines or special characters.")
				return
			}
			i += 2
		default:
			c.w.Errorf("ERR Syntax error in HELLO option '%s'", clip(string(args[i])))
			return
		}
	}
	if auth {
		if !c.login(ctx, user, secret) {
			return
		}
	} else if !c.state.known {
		c.w.Error("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
		return
	}
	c.mu.Lock()
	c.state.proto = proto
	if name != "" {
		c.state.name = name
	}
	c.mu.Unlock()
	c.w.proto = proto
	c.w.Map(7)
	c.w.Bulk("server")
	c.w.Bulk("redis") // clients compare it
	c.w.Bulk("version")
	c.w.Bulk(speaksLike)
	c.w.Bulk("proto")
	c.w.Int(int64(proto))
	c.w.Bulk("id")
	c.w.Int(c.id)
	c.w.Bulk("mode")
	c.w.Bulk("standalone")
	c.w.Bulk("role")
	c.w.Bulk("master")
	c.w.Bulk("modules")
	c.w.Array(0)
}

// speaksLike is the version of Redis whose protocol this is. Client libraries choose by it what they may say; what the
// gateway itself is stands in INFO as server_name and gateway_version.
const speaksLike = "7.2.0"

// nameable says whether s can be a connection's name: printable, without blanks.
func nameable(s string) bool {
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return len(s) <= 256
}
