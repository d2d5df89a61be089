package linux

import (
	"context"

	"github.com/kernwave/kernwave/fleet"
)

// CanInstall refuses, with the reason, what Install could not do now.
func (h *Host) CanInstall(ctx context.Context, k fleet.Kernel, files []string) error {
	if err := h.supported(); err != nil {
		return err
	}
	running, err := h.Release()
	if err != nil {
		return err
	}
	if err := h.packages.CanInstall(ctx, k, files, running); err != nil {
		return err
	}
	return h.boot.CanInstall(k.Release, running)
}

// Install installs the packages beside the running kernel and makes sure of a boot entry for k.Release.
func (h *Host) Install(ctx context.Context, k fleet.Kernel, files []string) error {
	if err := h.supported(); err != nil {
		return err
	}
	running, err := h.Release()
	if err != nil {
		return err
	}
	if err := h.packages.Install(ctx, k, files, running); err != nil {
		return err
	}
	return h.boot.EnsureEntry(ctx, k.Release)
}

// Installed says whether release has its files and a boot entry.
func (h *Host) Installed(_ context.Context, release string) (bool, error) {
	if !h.boot.Present() {
		return false, nil
	}
	return h.boot.HasEntry(release)
}
