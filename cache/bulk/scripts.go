package bulk

import (
	"crypto/sha1" //nolint:gosec // what redis.sha1hex computes; it tells values apart, and keeps nobody out
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/kernwave/kernwave/cache"
)

// Redis changes nothing conditionally, so what must not overtake a customer's write is a script on one key, which takes
// microseconds. Each returns 1: changed, 0: the key is not there, -1: it is not what it was, 2: it is as wanted already. Instants are
// compared as text, which Lua would otherwise write with an exponent.
const (
	unlinkScript = `local d = redis.call('DUMP', KEYS[1])
if not d then return 0 end
if redis.sha1hex(d) ~= ARGV[1] or string.format('%.0f', redis.call('PEXPIRETIME', KEYS[1])) ~= ARGV[2] then return -1 end
return redis.call('UNLINK', KEYS[1])`

	expireScript = `local t = redis.call('PEXPIRETIME', KEYS[1])
if t == -2 then return 0 end
if string.format('%.0f', t) ~= ARGV[1] then return -1 end
return redis.call('PEXPIREAT', KEYS[1], ARGV[2])`

	unexpireScript = `local t = redis.call('PEXPIRETIME', KEYS[1])
if t == -2 then return 0 end
t = string.format('%.0f', t)
if t == ARGV[1] then return 2 end
if t ~= ARGV[2] then return -1 end
if ARGV[1] == '-1' then return redis.call('PERSIST', KEYS[1]) end
return redis.call('PEXPIREAT', KEYS[1], ARGV[1])`
)

func unlinkWords(k Captured) []string {
	sum := sha1.Sum([]byte(k.Dump)) //nolint:gosec // see above
	return []string{"EVAL", unlinkScript, "1", k.Key, hex.EncodeToString(sum[:]), strconv.FormatInt(k.Until, 10)}
}

func expireWords(k Captured) []string {
	return []string{"EVAL", expireScript, "1", k.Key, strconv.FormatInt(k.Until, 10), strconv.FormatInt(k.Set, 10)}
}

func unexpireWords(k Captured) []string {
	return []string{"EVAL", unexpireScript, "1", k.Key, strconv.FormatInt(k.Until, 10), strconv.FormatInt(k.Set, 10)}
}

func restoreWords(k Captured) []string {
	return []string{"RESTORE", k.Key, strconv.FormatInt(max(k.Until, 0), 10), k.Dump, "ABSTTL"}
}

// moved is what a server answered as an error: stale where it no longer is whom the plan was made for.
func moved(addr string, v cache.Value) error {
	for _, code := range []string{"MOVED", "ASK", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "LOADING"} {
		if strings.HasPrefix(v.Str, code) {
			return cache.Errorf(cache.CodeStale, "", "%s answered %s", addr, v.Str)
		}
	}
	return cache.Errorf(cache.CodeErr, "", "%s answered %s", addr, v.Str)
}
