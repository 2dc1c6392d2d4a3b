package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// machine is the machine and the versions of a measurement.
type machine struct {
	CPU, Platform, Go, Redis string
	Commit                   string // empty if git is not available
	Cores                    int
	Modules                  []module // of the peers, by path
}

type module struct{ Path, Version string }

// describe returns the machine, by the go command, git and redis-server.
func describe(ctx context.Context, r *results) (machine, error) {
	m := machine{
		CPU: strings.TrimSpace(r.config["cpu"]), Platform: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(),
		Go: runtime.Version(),
	}
	if commit, err := outputOf(ctx, "git", "describe", "--always", "--dirty", "--exclude=*"); err == nil {
		m.Commit = strings.TrimSpace(commit)
	}
	version, err := outputOf(ctx, "redis-server", "--version")
	if err != nil {
		return machine{}, err
	}
	m.Redis = redisVersion(version)
	m.Modules, err = versions(ctx)
	return m, err
}

// outputOf returns the output of a command.
func outputOf(ctx context.Context, name string, args ...string) (string, error) {
	text, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("limiterbench: %s: %w", name, err)
	}
	return string(text), nil
}

// redisVersion returns the 7.0.15 of "Redis server v=7.0.15 sha=…".
func redisVersion(text string) string {
	_, rest, _ := strings.Cut(text, "v=")
	version, _, _ := strings.Cut(rest, " ")
	return version
}

// versions returns the versions of modules in go.mod, because a test binary does not
// record them.
func versions(ctx context.Context) ([]module, error) {
	paths := []string{"github.com/redis/go-redis/v9"}
	for _, p := range slices.Concat(peers, redisPeers) {
		if p.module != "" {
			paths = append(paths, p.module)
		}
	}
	slices.Sort(paths)
	args := append([]string{"list", "-m", "-f", "{{.Path}} {{.Version}}"}, slices.Compact(paths)...)
	text, err := outputOf(ctx, "go", args...)
	if err != nil {
		return nil, err
	}
	var list []module
	for line := range strings.Lines(text) {
		path, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		list = append(list, module{path, version})
	}
	return list, nil
}
