package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrDamaged is what Open's error wraps where the file is damaged elsewhere than at its end.
var ErrDamaged = errors.New("the journal is damaged")

// Damage is where a journal is damaged. The file has been left as it is.
type Damage struct {
	At      int64 // the byte at which the damaged record begins
	Before  int   // whole records before it
	Resumes int64 // the byte at which the next whole record begins; 0: none follows
	After   int   // whole records from there on
}

func (d *Damage) Error() string {
	what := fmt.Sprintf("%v: the record at byte %d is not what was written", ErrDamaged, d.At)
	if d.After == 0 {
		return fmt.Sprintf("%s: its length was changed; %d whole records before it; this was no power cut: look at the disk, and restore the file or move it away and keep it", what, d.Before)
	}
	return fmt.Sprintf("%s; %d whole records before it, %d from byte %d on; this was no power cut: look at the disk, and restore the file or move it away and keep it", what, d.Before, d.After, d.Resumes)
}

// Unwrap returns ErrDamaged.
func (d *Damage) Unwrap() error { return ErrDamaged }

// damage says whether what begins at a byte, where no whole record begins, is damage rather than the torn end of the file;
// nil: it is torn, or nothing is there. A power cut tears only what was written last: whole records do not follow. One
// checksum in 2³² fits by chance, and then a torn end is called damage, which loses nothing.
func damage(b []byte, at int) *Damage {
	rest := b[at:]
	for i := 1; i < len(rest); i++ {
		_, n := parse(rest[i:])
		if n == 0 {
			continue
		}
		d := &Damage{At: int64(at), Resumes: int64(at + i)}
		for ; n > 0; _, n = parse(rest[i:]) {
			d.After++
			i += n
		}
		return d
	}
	if size := len(rest) - 8; size >= 0 && size <= maxRecord { // the last record with another length?
		length := binary.LittleEndian.AppendUint32(nil, uint32(size))
		if sum(length, rest[8:]) == binary.LittleEndian.Uint32(rest[4:]) {
			return &Damage{At: int64(at)}
		}
	}
	return nil
}
