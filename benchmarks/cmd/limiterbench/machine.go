package main

import (
	"debug/buildinfo"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// machine is where and with what it was measured.
type machine struct {
	CPU, Platform, Go, Redis string
	Commit                   string // empty where git does not tell
	Cores                    int
	Modules                  []module // of the peers, by path
}

type module struct{ Path, Version string }

// describe asks the compiled benchmarks, and redis-server.
func describe(binary string, r *results) (machine, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return machine{}, fmt.Errorf("limiterbench: %w", err)
	}
	version, err := exec.Command("redis-server", "--version").Output()
	if err != nil {
		return machine{}, fmt.Errorf("limiterbench: redis-server --version: %w", err)
	}
	m := machine{
		CPU: r.config["cpu"], Platform: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(),
		Go: info.GoVersion, Redis: redisVersion(string(version)),
	}
	if commit, err := exec.Command("git", "describe", "--always", "--dirty", "--exclude=*").Output(); err == nil {
		m.Commit = strings.TrimSpace(string(commit))
	}
	wanted := modules()
	for _, d := range info.Deps {
		if slices.Contains(wanted, d.Path) {
			m.Modules = append(m.Modules, module{d.Path, d.Version})
		}
	}
	return m, nil
}

// redisVersion finds the 7.0.15 of "Redis server v=7.0.15 sha=…".
func redisVersion(text string) string {
	_, rest, _ := strings.Cut(text, "v=")
	version, _, _ := strings.Cut(rest, " ")
	return version
}

// modules are those whose versions matter.
func modules() []string {
	list := []string{"github.com/redis/go-redis/v9"}
	for _, p := range slices.Concat(peers, redisPeers) {
		list = append(list, p.module)
	}
	return list
}
