package journal

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// Record frames a payload as Append does, whatever it says.
func Record(t testing.TB, payload []byte) []byte {
	t.Helper()
	r := make([]byte, headerLen)
	binary.LittleEndian.PutUint32(r[0:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(r[4:], crc32.Checksum(payload, castagnoli))
	binary.LittleEndian.PutUint32(r[8:], crc32.Checksum(r[:8], castagnoli))
	return append(r, payload...)
}
