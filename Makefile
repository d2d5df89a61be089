# Every target is one line that you could type. `make` alone prints them.
SHELL := /bin/bash
export CGO_ENABLED := 0
BIN := bin
# What the tests of this repository are, apart from the lab's, which need virtual machines.
PACKAGES := ./...

.PHONY: help build setup test test-short test-lab demo demo-cache race fuzz bench-fuzz bench-sim bench-judge bench-cache bench-kill generate fmt lint clean

help: ## print the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## build kernwave, kernwave-agent and kernwave-lab into bin/
	go build -trimpath -ldflags "-s -w" -o $(BIN)/ ./cmd/...

setup: build ## install the Debian packages that tests and demo need
	scripts/setup.sh

test: setup ## everything a change needs: unit, property, fuzz seeds, API, CLI, and the lab's shared fleet
	scripts/test.sh

test-short: ## what needs no virtual machine; under 3 minutes
	go vet ./... && go test -short $(PACKAGES)

test-lab: setup ## all lab scenarios, on real virtual machines
	scripts/test-lab.sh all

demo: setup ## a real kernel over a small real fleet in waves, then one that panics on one host type
	scripts/demo.sh

demo-cache: setup ## commands over real Redis and Valkey fleets with traffic: a cluster, a Sentinel group, a single server
	go run ./cache/cachetest/demo $(BIN)/kernwave

race: ## the race detector, where goroutines share state
	CGO_ENABLED=1 go test -race -short ./fleet ./rollout ./grant ./internal/control ./internal/agent/...

fuzz: ## each fuzz test for 20 seconds
	scripts/fuzz.sh

bench-fuzz: ## each fuzz test for 15 minutes: hours; cut short, it goes on where it was. Logs in bench/fuzz
	FUZZTIME=15m FUZZLOGS=bench/fuzz scripts/fuzz.sh

bench-sim: build ## the simulator's long figures: 20,000 random fleets, 5,000 hosts, planted bugs; goes on where it was
	scripts/bench-sim.sh

bench-judge: ## what judges say of rollouts with a known truth, ours and its rivals: two hours; goes on where it was
	scripts/bench-judge.sh

bench-cache: ## the cache gateway's long proofs: 10⁹ bytes at its door, 100,000 cancelled calls, 1,000 temporary changes under faults, 1,000,000 keys unlinked and undone, 400 nodes drained under faults
	scripts/bench-cache.sh

bench-kill: ## kill -9 of agents and control planes at every point of every story: a quarter of an hour
	go test ./internal/agent/agenttest/fakehost -run TestKill -count=1 -kill.all -timeout 120m -v

generate: ## write generated files anew; leaves a clean tree
	go generate ./...

fmt: ## format with gofumpt
	go tool -modfile=tools/go.mod gofumpt -w $$(git ls-files '*.go' | grep -v '^api/gen/')

lint: ## vet, and formatting
	go vet ./... && test -z "$$(go tool -modfile=tools/go.mod gofumpt -l $$(git ls-files '*.go' | grep -v '^api/gen/'))"

clean: ## remove what was built
	rm -rf $(BIN)
