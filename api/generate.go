// Package api holds the .proto files of Kernwave's API; what is generated from
// them is in api/gen. Only internal/wire, internal/api and internal/cli use it.
package api

//go:generate sh generate.sh
