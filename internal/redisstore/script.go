package redisstore

import (
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
)

// script is a Lua script. It travels by its hash, and whole if the server does not
// know that.
type script struct{ source, hash string }

var (
	//go:embed common.lua
	commonLua string
	//go:embed exchange.lua
	exchangeLua string
	//go:embed fleet.lua
	fleetLua string

	exchangeScript = newScript(exchangeLua)
	fleetScript    = newScript(fleetLua)
)

func newScript(body string) script {
	source := commonLua + body
	sum := sha1.Sum([]byte(source)) // SHA-1 because Redis names scripts by it
	return script{source: source, hash: hex.EncodeToString(sum[:])}
}
