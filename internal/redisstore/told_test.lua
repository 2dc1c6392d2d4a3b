-- Put in front of a script, for tests: TIME is what ARGV[1] begins with, in
-- microseconds, and hashes expire by it. When, in milliseconds, is in a hash of
-- its own.
local told, id = string.match(ARGV[1], '^(%d+);(.*)$')
local ARGV = { id, ARGV[2] }
told = tonumber(told)

local server = redis
local redis = setmetatable({}, { __index = server })

function redis.call(command, name, ...)
  if command == 'TIME' then
    return { string.format('%.0f', math.floor(told / 1000000)), string.format('%.0f', told % 1000000) }
  elseif command == 'PEXPIREAT' then
    return server.call('HSET', 'expiries', name, ...)
  end
  return server.call(command, name, ...)
end

local expiry = tonumber(server.call('HGET', 'expiries', KEYS[1]) or nil)
if expiry and told / 1000 > expiry then
  server.call('DEL', KEYS[1])
  server.call('HDEL', 'expiries', KEYS[1])
end
