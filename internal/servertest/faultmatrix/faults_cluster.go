package faultmatrix

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// clusterFaults returns the faults of the first of three masters.
func clusterFaults() []*Fault {
	want := Want{Outage: true, Loses: 1, Back: backCluster, FromIt: true}
	moves := Want{Back: backCluster, FromIt: true}
	return []*Fault{
		{
			Name: "Cluster: master killed", House: clustered, Heal: promoted, Want: want,
			Inject: do(func(h *House) error { return h.server.Kill() }),
		},
		{
			Name: "Cluster: master SIGSTOPped", House: clustered, Heal: promoted, Want: want,
			Inject: do(func(h *House) error { return h.server.Freeze() }),
		},
		{
			Name: "Cluster: master killed, replica 2 s behind", House: clustered, Heal: promoted, Want: want,
			Inject: func(ctx context.Context, h *House) error {
				if err := lagBehind(ctx, h.cluster.Nodes[3]); err != nil {
					return err
				}
				pause(ctx, 2*time.Second)
				h.Struck = time.Now()
				return h.server.Kill()
			},
		},
		{Name: "Cluster: our slots moved under load", House: clustered, Inject: moveOurs, Want: moves},
		{Name: "Cluster: our slots half migrated", House: clustered, Lasts: lasting, Inject: halfMove, Heal: finishMove, Want: moves},
	}
}

// promoted waits until the first master's replica serves its slots.
func promoted(ctx context.Context, h *House) error {
	r := h.cluster.Nodes[3].Client()
	defer r.Close()
	for range 3000 {
		role, err := r.Info(ctx, "replication").Result()
		state, err2 := r.ClusterInfo(ctx).Result()
		if err == nil && err2 == nil && strings.Contains(role, "role:master") && strings.Contains(state, "cluster_state:ok") {
			return nil
		}
		pause(ctx, 20*time.Millisecond)
	}
	return errors.New("the replica was not promoted")
}

// move is a migration of slots from the first master to the second.
type move struct {
	from, to     *redis.Client
	toPort       int
	fromID, toID string
	slots        []int64
}

// newMove returns a move of the slots of all keys on the first master.
func newMove(ctx context.Context, h *House) (*move, error) {
	m := &move{from: h.Admin, to: h.cluster.Nodes[1].Client(), toPort: h.cluster.Nodes[1].Port()}
	h.closeLater(m.to)
	var err1, err2, err3 error
	m.fromID, err1 = m.from.Do(ctx, "cluster", "myid").Text()
	m.toID, err2 = m.to.Do(ctx, "cluster", "myid").Text()
	keys, err3 := m.from.Keys(ctx, "*").Result()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	seen := map[int64]bool{}
	for _, key := range keys {
		slot, err := m.from.ClusterKeySlot(ctx, key).Result()
		if err != nil {
			return nil, err
		}
		if !seen[slot] {
			seen[slot] = true
			m.slots = append(m.slots, slot)
		}
	}
	return m, nil
}

// open begins the migration of a slot.
func (m *move) open(ctx context.Context, slot int64) error {
	return errors.Join(
		m.to.Do(ctx, "cluster", "setslot", slot, "importing", m.fromID).Err(),
		m.from.Do(ctx, "cluster", "setslot", slot, "migrating", m.toID).Err(),
	)
}

// carry moves the keys of a slot.
func (m *move) carry(ctx context.Context, slot int64) error {
	for {
		keys, err := m.from.ClusterGetKeysInSlot(ctx, int(slot), 100).Result()
		if err != nil || len(keys) == 0 {
			return err
		}
		for _, key := range keys {
			if err := m.from.Do(ctx, "migrate", "127.0.0.1", m.toPort, key, 0, 5000).Err(); err != nil {
				return fmt.Errorf("slot %d: %w", slot, err)
			}
		}
	}
}

func (m *move) finish(ctx context.Context, slot int64) error {
	return errors.Join(
		m.to.Do(ctx, "cluster", "setslot", slot, "node", m.toID).Err(),
		m.from.Do(ctx, "cluster", "setslot", slot, "node", m.toID).Err(),
	)
}

func moveOurs(ctx context.Context, h *House) error {
	m, err := newMove(ctx, h)
	if err != nil {
		return err
	}
	for _, slot := range m.slots {
		if err := m.open(ctx, slot); err != nil {
			return err
		}
		if err := errors.Join(m.carry(ctx, slot), m.finish(ctx, slot)); err != nil {
			return err
		}
	}
	return nil
}

// halfMove opens all slots and carries the keys of every other one.
func halfMove(ctx context.Context, h *House) error {
	m, err := newMove(ctx, h)
	if err != nil {
		return err
	}
	h.move = m
	for i, slot := range m.slots {
		if err := m.open(ctx, slot); err != nil {
			return err
		}
		if i%2 == 0 {
			if err := m.carry(ctx, slot); err != nil {
				return err
			}
		}
	}
	return nil
}

func finishMove(ctx context.Context, h *House) error {
	for _, slot := range h.move.slots {
		if err := errors.Join(h.move.carry(ctx, slot), h.move.finish(ctx, slot)); err != nil {
			return err
		}
	}
	return nil
}
