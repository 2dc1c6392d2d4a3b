-- One chunk of one partition: the rules are in docs/design.md, the wire in codec.go.
-- KEYS[1] the partition's hash; ARGV[1] the ID; ARGV[2] the request.
-- All state is written by one HSET: a server that refuses it has applied nothing. A
-- second one may follow, for the expiry alone.
--
-- Fields of the hash, numbers 8 bytes each:
--   \0n<ID>      sequence number, when it was applied
--   \0m          sweep cursor, expiry (ms of TIME), clock when last written, offset of the
--                clock; when the last sweep was, fields that this pass over all of them has
--                left so far, and that the pass before has left, or that were added since
--   k… or d…     TAT, demand, when that was so, unused refill; the limit by which TAT and
--                refill are time: µs that a full bucket takes to fill, and the burst, each
--                in 4 bytes, floating point (0, 0: not known)

local byte, ceil, exp, floor, max, min = string.byte, math.ceil, math.exp, math.floor, math.max, math.min
local key, request = KEYS[1], ARGV[2]
local own, meta = '\0n' .. ARGV[1], '\0m'

-- TAT of a key that was never charged.
local NEVER = -HUGE
-- The most unused refill that is kept: 7 s.
local UNUSED = 7000000
-- 24 h: how long a sequence number is kept.
local DAY = 86400000000
-- A sweep looks at all fields within PASS, whatever the traffic, and at MOST in a call.
-- It counts buckets of the hash's table, of which up to a half are empty.
local PASS, MOST = 400000000, 600
-- The reply looks no further back than this.
local LONGAGO = -4398046511104 -- −2^42

local version = byte(request, 1)
if version ~= 2 then
  return redis.error_reply('ERR limiter: unknown request version ' .. tostring(version))
end
local _, flags, seq, tau, keep, lifetime, at = unpacked('<BBi8i8i8i8', request)
local floors, leave = flags % 2 == 1, flags % 4 >= 2

-- Read the fields alone: the numbers are read where they are used, which spares
-- tables to keep them in.
local numbers = floors and '<BBi8i8i8i8c8i8' or '<BBi8i8i8i8c8'
local size = floors and 50 or 42
local records, n, fields, asked, repeated = at, 0, { own, meta }, {}, false
while at <= #request do
  local field
  field, at = unpacked('<I2c0', request, at)
  at = at + size
  n = n + 1
  fields[n + 2] = field
  repeated = repeated or asked[field]
  asked[field] = true
end

local stored = redis.call('HMGET', key, unpack(fields))

local cursor, expire, last, offset, swept, seen, kept = 0, 0, 0, 0, 0, 0, 0
if stored[2] and #stored[2] == 72 then
  cursor, expire, last, offset, swept, seen, kept = unpacked('<i8i8i8i8i8i8i8', stored[2])
  if cursor < 0 or cursor > HUGE then cursor = 0 end
  if expire < 0 or expire > HUGE / 500 then expire = 0 end
  if min(seen, kept) < 0 or max(seen, kept) > HUGE then seen, kept = 0, 1 end
end
local time, now
time, now, offset = clock(last, offset)
if swept <= 0 or swept > now then swept = now end
local idle = now - keep

-- state decodes the state of a key. It returns nil for one that is missing, invalid,
-- or may be swept, so that the time of the sweep changes no result.
local function state(value)
  if not value or #value ~= 40 then return nil end
  local tat, demand, since, unused, limit = unpacked('<i8i8i8i8c8', value)
  if tat < idle and since < idle then return nil end
  if tat < NEVER then tat = NEVER elseif tat > now + HUGE then tat = now + HUGE end
  if demand < 0 then demand = 0 elseif demand > HUGE then demand = HUGE end
  if since < now and demand > 0 then
    demand = demand * exp((since - now) / tau) + 0.5
    demand = demand - demand % 1
  end
  if unused < 0 then unused = 0 elseif unused > UNUSED then unused = UNUSED end
  return tat, demand, unused, limit
end

-- relimited returns a TAT and unused refill as time by another limit: the tokens stay,
-- at most the new burst, and what is owed; Limit has the reasons.
local function relimited(tat, unused, from, to, age)
  local full, burst = unpacked('<ff', from)
  local newFull, newBurst = unpacked('<ff', to)
  if not (full >= 1 and burst >= 1 and full <= HUGE and burst <= HUGE) then return tat, unused end
  unused = min(UNUSED, floor(unused * (burst / full) * (newFull / newBurst) + 0.5))
  if tat == NEVER then return tat, unused end
  local missing = newBurst - burst
  if tat > now then missing = missing + (tat - now) * burst / full end
  if missing <= 0 then return min(tat, now), unused end
  return min(now, max(tat, now - age)) + min(floor(missing * newFull / newBurst + 0.5), HUGE), unused
end

-- sequence decodes the sequence number of an ID; 0 where there is none.
local function sequence(value)
  if not value or #value ~= 16 then return 0 end
  local number, since = unpacked('<i8i8', value)
  if since < now - DAY or number < 0 or number > 2 * HUGE then return 0 end
  return number
end

-- merged returns the TAT and the unused refill after a record.
local function merged(tat, unused, op, left, delta, age, ceiling, least)
  if op == 2 then return now, 0 end
  if least ~= 0 then tat = max(tat, now + least) end
  if op == 1 then return max(tat - delta, min(tat, now)), unused end
  if delta == 0 then return tat, unused end
  local base = now - age
  if left > 0 then left = floor(min(delta, UNUSED * 256) * left / 256) end
  if op == 3 then -- its ceiling is the part that takes nothing unused
    local taken = max(0, min(delta - ceiling, unused, age))
    unused, delta, ceiling = unused - taken, delta - taken, 0
  end
  if base < tat then
    base = tat
  elseif base > tat and tat ~= NEVER then
    unused = unused + base - tat
  end
  if left > 0 then unused = unused + left end
  if unused > UNUSED then unused = UNUSED end
  local charged = base + delta
  if ceiling > 0 then charged = min(charged, max(base, now + ceiling)) end
  if charged > now + HUGE then charged = now + HUGE end
  return charged, unused
end

local prev = sequence(stored[1])
local status = 0
if prev >= seq then
  status = 1
elseif prev < seq - 1 and not floors then
  status = 2
end

-- If a field is in several records, after holds its state after the last of them; it
-- is written once for each, and the last write counts. The code that runs for each
-- key uses no max, min or #, which cost 5 % of the whole.
local writes, w, added, furthest = { meta, '' }, 2, 0, now
local reply, after, limits, ages = {}, {}, {}, {}
at = records
for i = 1, n do
  local field, value = fields[i + 2], stored[i + 2]
  local before = repeated and after[field]
  local tat, demand, unused, of
  if before then
    tat, demand, unused, of = before[1], before[2], before[3], before[4]
  else
    tat, demand, unused, of = state(value)
    if not tat then tat, demand, unused, of = NEVER, 0, 0, UNKNOWN end
  end
  local op, left, delta, attempts, age, ceiling, limit, least = unpacked(numbers, request, at + 2 + #field)
  at = at + 2 + #field + size
  if repeated then
    after[field], limits[i], ages[i] = before or { tat, demand, unused, of }, limit, age
  end
  if limit == UNKNOWN then
    limit = of
  elseif limit ~= of then
    tat, unused = relimited(tat, unused, of, limit, age)
  end
  if status == 0 then
    local new, rest = merged(tat, unused, op, left, delta, age, ceiling, floors and least or 0)
    if new ~= tat or rest ~= unused or attempts > 0 or attempts < 0 and demand > 0 or limit ~= of and tat ~= NEVER then
      tat, demand, unused = new, demand + attempts, rest
      if demand > HUGE then demand = HUGE elseif demand < 0 then demand = 0 end
      writes[w + 1], writes[w + 2] = field, pack('<i8i8i8i8c8', tat, demand, now, unused, limit)
      w = w + 2
      if not value and not before then added = added + 1 end
      if tat > furthest then furthest = tat end
      if repeated then after[field] = { tat, demand, unused, limit } end
    end
  end
  local togo = tat - now
  if togo < LONGAGO then togo = LONGAGO end
  reply[2 * i - 1], reply[2 * i] = togo, demand
end
if repeated then
  for i = 1, n do
    local last, limit = after[fields[i + 2]], limits[i]
    local tat = last[1]
    if limit ~= UNKNOWN and limit ~= last[4] then tat = relimited(tat, 0, last[4], limit, ages[i]) end
    reply[2 * i - 1] = max(tat - now, LONGAGO)
    reply[2 * i] = last[2]
  end
end

-- sweep reads the next fields, and returns the expired ones.
local function sweep(most)
  local over = {}
  local scan = redis.call('HSCAN', key, decimal(cursor), 'COUNT', decimal(most))
  cursor = tonumber(scan[1]) or 0
  local found = scan[2]
  for i = 1, #found, 2 do
    local field, value = found[i], found[i + 1]
    local a, b = byte(field, 1, 2)
    local gone = false
    if a == 107 or a == 100 then -- k, d
      gone = not (#value == 40 and unpacked('<i8', value) >= idle) and not asked[field] and not state(value)
    elseif a == 0 and b == 110 then -- \0n
      gone = field ~= own and sequence(value) == 0
    end
    if gone then over[#over + 1] = field end
  end
  seen, swept = seen + #found / 2 - #over, now
  if cursor == 0 then kept, seen = seen, 0 end
  return over
end

-- latestTAT returns the latest TAT of all keys if they are few, otherwise nil.
local function latestTAT()
  local at, latest = '0', now
  for _ = 1, 4 do
    local scan = redis.call('HSCAN', key, at, 'COUNT', decimal(MOST))
    at = scan[1]
    for i = 1, #scan[2], 2 do
      local a = byte(scan[2][i])
      local tat = (a == 107 or a == 100) and state(scan[2][i + 1])
      if tat and tat > latest then latest = tat end
    end
    if at == '0' then return latest end
  end
end

local wait = 0
if status == 0 then
  local changed = w > 2
  if not leave then
    writes[w + 1], writes[w + 2] = own, pack('<i8i8', seq, now)
    if not stored[1] then added = added + 1 end
  end
  -- A sweep reads twice as many fields as were added, so that a flood of fresh keys
  -- cannot outrun it; without new fields as many as are due, a few at least.
  local over, due = {}, ceil(min(MOST, 2 * kept * (now - swept) / PASS))
  if due < min(8, kept) then due = 0 end
  if added > 0 then due = max(due, 8 + 2 * added) end
  if due > 0 then over = sweep(due) end
  kept = kept + added
  if leave then over[#over + 1] = own end
  local renew
  if changed or expire == 0 then
    expire, renew = renewed(expire, time, furthest - now + lifetime)
  end
  -- Padded beyond 64 bytes: a hash with such a value is never a listpack, whose lookups are linear.
  local function head()
    return pack('<i8i8i8i8i8i8i8', cursor, expire, now, offset, swept, seen, kept) .. string.rep('\0', 16)
  end
  writes[2] = head()
  redis.call('HSET', key, unpack(writes))
  drop(key, over)
  -- Charges that were refunded or reset since must not keep the hash alive.
  local latest = leave and kept <= MOST / 2 and latestTAT()
  if latest and latest - now + lifetime + MINUTE < expire * 1000 - time then
    expire, renew = renewed(0, time, latest - now + lifetime)
    redis.call('HSET', key, meta, head())
  end
  if renew then redis.call('PEXPIREAT', key, decimal(expire)) end
  wait = max(100000, min(floor(PASS * MOST / 4 / max(1, kept)), 30000000))
end

local expires = min(expire * 1000 + offset, 2 * HUGE)
return pack('<Bi8i8i8i8' .. string.rep('i8', 2 * n), status, now, prev, expires, wait, unpack(reply))
