package rollout

import "github.com/kernwave/kernwave/fleet"

// Anomalous says whether an operation that ended for a cause speaks against its kernel or its host, so that its rollout
// pauses and holds the host. The others happened in service.
func Anomalous(c fleet.Cause) bool { return anomalous(c) }
