package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// TypeKeyVersion changes whenever TypeOf would give other ids for the same
// facts. Approvals carry it: one given under another version does not count.
const TypeKeyVersion = 1

// HostTypeID is a readable name that ends in a hash of the type's values: lab-small.web.3f9a1c.
type HostTypeID string

// HostType is the set of hosts that one validation can speak for: the same
// values of the type key. The zero value is the type of a host that has not said what it is.
type HostType struct {
	ID     HostTypeID  `json:"id,omitempty"`
	Values []TypeValue `json:"values,omitempty"`
}

// TypeValue is one part of the type key, in the order of the key.
type TypeValue struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// TypeOf gives the host type by the default type key: hardware model, storage
// and network drivers with firmware, workload, OS release, architecture and
// kernel flavour. The kernel's release is not part of it: an update must not
// change what a host is.
func TypeOf(f Facts) HostType {
	var storage, network []string
	for _, d := range f.Disks {
		storage = append(storage, driverWithFirmware(d.Driver, d.Firmware))
	}
	for _, n := range f.NICs {
		network = append(network, driverWithFirmware(n.Driver, n.Firmware))
	}
	values := []TypeValue{
		{"model", strings.TrimSpace(f.Hardware.Vendor + " " + f.Hardware.Model)},
		{"storage", joinDistinct(storage)},
		{"network", joinDistinct(network)},
		{"workload", f.Labels[LabelWorkload]},
		{"os", strings.TrimSpace(f.OS.ID + " " + f.OS.Version)},
		{"arch", f.Arch},
		{"flavour", f.Kernel.Flavour},
	}
	h := sha256.New()
	for _, v := range values {
		h.Write([]byte(v.Key + "\x00" + v.Value + "\x00"))
	}
	sum := hex.EncodeToString(h.Sum(nil)[:3])
	model, workload := slug(f.Hardware.Model), slug(f.Labels[LabelWorkload])
	if model == "" {
		model = "unknown-model"
	}
	if workload == "" {
		workload = "any"
	}
	return HostType{ID: HostTypeID(model + "." + workload + "." + sum), Values: values}
}

// String describes the type by its values, for people.
func (t HostType) String() string {
	var parts []string
	for _, v := range t.Values {
		if v.Value != "" {
			parts = append(parts, v.Key+"="+v.Value)
		}
	}
	return strings.Join(parts, ", ")
}

func driverWithFirmware(driver, firmware string) string {
	if firmware == "" {
		return driver
	}
	return driver + " (" + firmware + ")"
}

// joinDistinct ignores how many there are: one disk more is still the same type.
func joinDistinct(vs []string) string {
	slices.Sort(vs)
	return strings.Join(slices.Compact(vs), "+")
}

// slug keeps what may stand in an id and a shell word.
func slug(s string) string {
	var b strings.Builder
	dash := false
	for _, r := range strings.ToLower(s) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			if dash && b.Len() > 0 {
				b.WriteByte('-')
			}
			dash = false
			b.WriteRune(r)
			continue
		}
		dash = true
	}
	out := b.String()
	if len(out) > 24 {
		out = strings.TrimRight(out[:24], "-")
	}
	return out
}
