-- One call of one process on the fleet's hash: docs/design.md, membership.
-- KEYS[1] the hash; ARGV[1] the process; ARGV[2] the request.
--
-- Fields of the hash, numbers 8 bytes each:
--   \0p<process>  last seen, interval of its rounds
--   \0m           expiry (ms of TIME), clock when last written, offset of the clock;
--                 when members were last counted, how many, how many of them silent,
--                 how many lost, longest and shortest interval; number of the latest news
--   \0e<slot>     news of a number: the number, TAT, demand; flags (1 byte), field of the key.
--                 The slot, 2 bytes, is the number modulo the number of news kept.

local max, min = math.max, math.min
local key, request = KEYS[1], ARGV[2]
local own, meta = '\0p' .. ARGV[1], '\0m'

local version = string.byte(request, 1)
if version ~= 2 then
  return redis.error_reply('ERR limiter: unknown request version ' .. tostring(version))
end
local _, flags, silent, forget, remember, interval, heard, at = unpacked('<BBi8i8i8i8i8', request)
local leave = flags % 2 == 1

-- What is kept of news, and told in one call at the most.
local KEPT, MOST = 256, 64

local stored = redis.call('HMGET', key, own, meta)

local expire, last, offset, counted, members, mute, lost, slowest, fastest, latest = 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
if stored[2] and #stored[2] == 80 then
  expire, last, offset, counted, members, mute, lost, slowest, fastest, latest = unpacked('<i8i8i8i8i8i8i8i8i8i8', stored[2])
  if latest < 0 or latest > HUGE then latest = 0 end
end
local time, now
time, now, offset = clock(last, offset)

-- seen decodes when a process was last seen, and its interval; nil where that is
-- rubbish or too long ago.
local function seen(value)
  if not value or #value ~= 16 then return nil end
  local at, every = unpacked('<i8i8', value)
  if at < now - max(forget, remember) or at > now or every < 0 or every > HUGE then return nil end
  return at, every
end

-- count looks at every member but this one: linear in the fleet, so it is done
-- when somebody comes, comes back or leaves, and eight times in the time that
-- makes a process silent. Between them a call costs the same for any fleet;
-- thousands of processes are fine.
local function count()
  local others, quiet, gone, longest, shortest = 0, 0, 0, interval, interval
  local over, known, cursor = {}, {}, '0'
  repeat
    local scan = redis.call('HSCAN', key, cursor, 'COUNT', '1000')
    cursor = scan[1]
    local found = scan[2]
    for i = 1, #found, 2 do
      local field = found[i]
      local a, b = string.byte(field, 1, 2)
      if a == 0 and b == 112 and field ~= own and not known[field] then -- \0p
        known[field] = true -- a scan may give a field twice
        local at, every = seen(found[i + 1])
        if not at then
          over[#over + 1] = field
        elseif at < now - forget then
          gone = gone + 1
        else
          others = others + 1
          if now - at > silent then quiet = quiet + 1 end
          longest, shortest = max(longest, every), min(shortest, every)
        end
      end
    end
  until cursor == '0'
  return over, others, quiet, gone, longest, shortest
end

local over = {}
local mine, mineEvery = seen(stored[1])
local stale = counted > now or now - counted >= math.floor(silent / 8)
if stale or leave or not mine or now - mine > min(forget, silent) or mineEvery ~= interval then
  over, members, mute, lost, slowest, fastest = count()
  if not leave then members = members + 1 end
  counted = now
end

local writes = { meta, '' }
if leave then
  over[#over + 1] = own
else
  writes[3], writes[4] = own, pack('<i8i8', now, interval)
end

local function slot(number)
  number = number % KEPT
  return '\0e' .. string.char(number % 256, math.floor(number / 256))
end

-- What this process tells goes to the places of the oldest, and back to it
-- with the rest, as the others hear it.
local told = {}
while at <= #request do
  local field, word, togo, demand
  field, word, togo, demand, at = unpacked('<Bc0Bi8i8', request, at)
  latest = latest + 1
  local value = pack('<i8i8i8B', latest, now + togo, demand, word) .. field
  told[latest] = value
  writes[#writes + 1] = slot(latest)
  writes[#writes + 1] = value
end

if heard > latest then heard = 0 end
local slots, news = {}, {}
local from = math.max(heard, latest - MOST) + 1
for number = from, latest do slots[#slots + 1] = slot(number) end
local kept = {}
if #slots > 0 then kept = redis.call('HMGET', key, unpack(slots)) end
for i = 1, #slots do
  local number = from + i - 1
  local value = told[number] or kept[i]
  if value and #value > 25 then
    local n, tat, demand, word = unpacked('<i8i8i8B', value)
    local field = string.sub(value, 26)
    if n == number and (tat > now or word == 1) and tat <= now + HUGE and demand >= 0 and demand <= HUGE and #field < 256 then
      news[#news + 1] = pack('<B', #field) .. field .. pack('<Bi8i8', word, math.max(0, tat - now), demand)
    end
  end
end

local renew
expire, renew = renewed(expire, time, DAY)
writes[2] = pack('<i8i8i8i8i8i8i8i8i8i8', expire, now, offset, counted, members, mute, lost, slowest, fastest, latest)
redis.call('HSET', key, unpack(writes))
drop(key, over)
if renew then redis.call('PEXPIREAT', key, decimal(expire)) end

return pack('<Bi8i8i8i8i8i8i8', 0, now, members, mute, lost, slowest, fastest, latest) .. table.concat(news)
