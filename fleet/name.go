package fleet

import "fmt"

// maxName is the longest host id, label key or label value.
const maxName = 63

// ParseHostID checks that s can name a host. The error says what is wrong with it.
func ParseHostID(s string) (HostID, error) {
	if err := checkName(s); err != nil {
		return "", fmt.Errorf("host name %q: %w", s, err)
	}
	return HostID(s), nil
}

// Validate checks every key and value. An empty value is allowed.
func (l Labels) Validate() error {
	for k, v := range l {
		if err := checkName(k); err != nil {
			return fmt.Errorf("label %q: %w", k, err)
		}
		if v == "" {
			continue
		}
		if err := checkName(v); err != nil {
			return fmt.Errorf("label %s=%q: %w", k, v, err)
		}
	}
	return nil
}

func checkName(s string) error {
	if s == "" {
		return fmt.Errorf("must not be empty")
	}
	if len(s) > maxName {
		return fmt.Errorf("%d characters, at most %d are allowed", len(s), maxName)
	}
	for i, r := range s {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if alnum || i > 0 && (r == '-' || r == '.' || r == '_') {
			continue
		}
		return fmt.Errorf("character %q at position %d; allowed are letters, digits and, after the first, '-', '.', '_'", r, i+1)
	}
	return nil
}
