package sqlite

// OpenUnsynced is Open for simulators: it waits for no disk, and takes no lock, so that two processes that both believe
// to be the only one can be played. Put dir into memory, such as below /dev/shm.
func OpenUnsynced(dir string, o Options) (*Store, error) {
	o.unsynced, o.unlocked = true, true
	return Open(dir, o)
}
