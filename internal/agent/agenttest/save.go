package agenttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// LoadMachine reads a machine that [SaveMachine] wrote. A missing file is fs.ErrNotExist.
func LoadMachine(path string) (Machine, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Machine{}, err
	}
	var m Machine
	if err := json.Unmarshal(data, &m); err != nil {
		return Machine{}, fmt.Errorf("read machine %s: %w", path, err)
	}
	return m, nil
}

// SaveMachine replaces the file whole; a killed process leaves the old machine or the new one.
func SaveMachine(path string, m Machine) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// EditMachine changes a saved machine that is not running.
func EditMachine(path string, f func(*Machine)) error {
	m, err := LoadMachine(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f(&m)
	return SaveMachine(path, m)
}
