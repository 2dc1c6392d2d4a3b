-- One chunk of one partition: the rules are in docs/design.md, the wire in codec.go.
-- KEYS[1] the partition's hash; ARGV[1] the ID; ARGV[2] the request.
-- All state is written by one HSET: a server that refuses it has applied nothing.
--
-- Fields of the hash, numbers 8 bytes each:
--   \0n<ID>      sequence number, when it was applied
--   \0m          sweep cursor, expiry (ms of TIME), clock when last written, offset of the clock
--   k… or d…     TAT, demand, when that was so

local floor, exp = math.floor, math.exp
local key, request = KEYS[1], ARGV[2]
local own, meta = '\0n' .. ARGV[1], '\0m'

-- TAT of a key that was never charged.
local NEVER = -HUGE
-- The reply looks no further back than this.
local LONGAGO = -4398046511104 -- −2^42

local version = string.byte(request, 1)
if version ~= 1 then
  return redis.error_reply('ERR limiter: unknown request version ' .. tostring(version))
end
local _, flags, seq, tau, keep, at = unpacked('<BBi8i8i8', request)
local floors, leave = flags % 2 == 1, flags % 4 >= 2
keep = keep * 1000

-- Read the records. A field may come in several of them: first says where it came first.
local layout = floors and '<I2c0Bi8i8i8i8i8' or '<I2c0Bi8i8i8i8'
local n, first, fields = 0, {}, { own, meta }
local op, delta, attempts, age, ceiling, least = {}, {}, {}, {}, {}, {}
while at <= #request do
  n = n + 1
  local field, a, b
  field, op[n], delta[n], attempts[n], age[n], ceiling[n], a, b = unpacked(layout, request, at)
  if floors then least[n], at = a, b else least[n], at = 0, a end
  fields[n + 2] = field
  first[field] = first[field] or n
end

local stored = redis.call('HMGET', key, unpack(fields))

local cursor, expire, last, offset = 0, 0, 0, 0
if stored[2] and #stored[2] == 72 then
  cursor, expire, last, offset = unpacked('<i8i8i8i8', stored[2])
  if cursor < 0 or cursor > HUGE then cursor = 0 end
end
local time, now
time, now, offset = clock(last, offset)
local idle = now - keep

-- state decodes the state of a key. nil stands for one that is not there, is
-- rubbish, or that the sweep may take: so nobody can tell when the sweep comes.
local function state(value)
  if not value or #value ~= 24 then return nil end
  local tat, demand, since = unpacked('<i8i8i8', value)
  if tat < idle and since < idle then return nil end
  if tat < NEVER then tat = NEVER elseif tat > now + HUGE then tat = now + HUGE end
  if demand < 0 then demand = 0 elseif demand > HUGE then demand = HUGE end
  if since < now and demand > 0 then
    demand = floor(demand * exp((since - now) / tau) + 0.5)
  end
  return tat, demand
end

-- sequence decodes the sequence number of an ID; 0 where there is none.
local function sequence(value)
  if not value or #value ~= 16 then return 0 end
  local number, since = unpacked('<i8i8', value)
  if since < now - DAY or number < 0 or number > 2 * HUGE then return 0 end
  return number
end

-- merged is the TAT after record i.
local function merged(tat, i)
  local o = op[i]
  if o == 2 then return now end
  if least[i] ~= 0 and now + least[i] > tat then tat = now + least[i] end
  if o == 1 then return math.max(tat - delta[i], math.min(tat, now)) end
  if delta[i] == 0 then return tat end
  local base = math.max(tat, now - age[i])
  local charged = base + delta[i]
  if ceiling[i] > 0 then charged = math.min(charged, math.max(base, now + ceiling[i])) end
  return math.min(charged, now + HUGE)
end

local prev = sequence(stored[1])
local status = 0
if prev >= seq then
  status = 1
elseif prev < seq - 1 and not floors then
  status = 2
end

local tats, demands, changed = {}, {}, {}
for i = 1, n do
  local j = first[fields[i + 2]]
  if i == j then
    local tat, demand = state(stored[i + 2])
    tats[j], demands[j] = tat or NEVER, demand or 0
  end
  if status == 0 then
    local tat = merged(tats[j], i)
    if tat ~= tats[j] or attempts[i] > 0 then
      tats[j], demands[j], changed[j] = tat, math.min(demands[j] + attempts[i], HUGE), true
    end
  end
end

-- sweep looks at the next few fields and returns those whose time is over. It
-- looks at twice as many as were added, so a flood of fresh keys cannot outrun it.
local function sweep(added)
  local scan = redis.call('HSCAN', key, decimal(cursor), 'COUNT', decimal(8 + 2 * added))
  cursor = tonumber(scan[1]) or 0
  local over, found = {}, scan[2]
  for i = 1, #found, 2 do
    local field, value = found[i], found[i + 1]
    local a, b = string.byte(field, 1, 2)
    local gone = false
    if a == 107 or a == 100 then -- k, d
      gone = not first[field] and not state(value)
    elseif a == 0 and b == 110 then -- \0n
      gone = field ~= own and sequence(value) == 0
    end
    if gone then over[#over + 1] = field end
  end
  return over
end

if status == 0 then
  local writes, added, furthest = { meta, '' }, 0, now
  for i = 1, n do
    if changed[i] then
      writes[#writes + 1] = fields[i + 2]
      writes[#writes + 1] = pack('<i8i8i8', tats[i], demands[i], now)
      if not stored[i + 2] then added = added + 1 end
      if tats[i] > furthest then furthest = tats[i] end
    end
  end
  if not leave then
    writes[#writes + 1] = own
    writes[#writes + 1] = pack('<i8i8', seq, now)
    if not stored[1] then added = added + 1 end
  end
  local over = sweep(added)
  if leave then over[#over + 1] = own end
  local renew
  expire, renew = renewed(expire, time, math.max(furthest - now + 2 * keep, DAY))
  -- Padded beyond 64 bytes: a hash with such a value is never a listpack, whose lookups are linear.
  writes[2] = pack('<i8i8i8i8', cursor, expire, now, offset) .. string.rep('\0', 40)
  redis.call('HSET', key, unpack(writes))
  drop(key, over)
  if renew then redis.call('PEXPIREAT', key, decimal(expire)) end
end

local reply = {}
for i = 1, n do
  local j = first[fields[i + 2]]
  local togo = tats[j] - now
  reply[2 * i - 1] = togo > LONGAGO and togo or LONGAGO
  reply[2 * i] = demands[j]
end
return pack('<Bi8i8' .. string.rep('i8', 2 * n), status, now, prev, unpack(reply))
