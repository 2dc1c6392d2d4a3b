-- One call of one process on the fleet's hash: docs/design.md, membership.
-- KEYS[1] the hash; ARGV[1] the process; ARGV[2] the request.
--
-- Fields of the hash, numbers 8 bytes each:
--   \0p<process>  last seen, interval of its rounds, when it started, limit (as in a state);
--                 a process that is degraded does not count as seen, and stays a member
--   \0m           expiry (ms of TIME), clock when last written, offset of the clock;
--                 when members were last counted, how many, how many of them silent,
--                 how many newer, how many lost, longest and shortest interval; number of the latest news;
--                 least and largest limit; the latest TAT in any news
--   \0t<slot>     a page of news: the number of the first; per piece of news the length
--                 of the field (1 byte), field, flags (1 byte), TAT, demand, limit (8 bytes,
--                 as in a state). Page p has the numbers PAGE·p + 1 to PAGE·p + PAGE; its slot, 2 bytes, is p modulo KEPT.

local max, min = math.max, math.min
-- The least difference between the starts of an older and a newer process.
local NEWER = 2000000
-- A process of a shorter lifetime is not silent, but gone: it had next to no share.
local BRIEFLY = 5000000
local key, request = KEYS[1], ARGV[2]
local own, meta = '\0p' .. ARGV[1], '\0m'

local version = string.byte(request, 1)
if version ~= 2 then
  return redis.error_reply('ERR limiter: unknown request version ' .. tostring(version))
end
local _, flags, silent, forget, remember, interval, age, heard, limit, at = unpacked('<BBi8i8i8i8i8i8c8', request)
local leave, degraded = flags % 2 == 1, flags % 4 >= 2

-- News on a page, pages kept, and pages read in one call at most. A page is read and
-- sent as it is: Redis spends its time on pages, not on news. LONGEST is its length at
-- most: 16 fields of 255 bytes.
local PAGE, KEPT, MOST, LONGEST = 16, 512, 32, 4504

local stored = redis.call('HMGET', key, own, meta)

local expire, last, offset, counted, members, mute, newer, lost, slowest, fastest, latest = 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
local least, largest, furthest = UNKNOWN, UNKNOWN, 0
if stored[2] and #stored[2] == 112 then
  expire, last, offset, counted, members, mute, newer, lost, slowest, fastest, latest, least, largest, furthest = unpacked('<i8i8i8i8i8i8i8i8i8i8i8c8c8i8', stored[2])
  if latest < 0 or latest > HUGE then latest = 0 end
  if furthest < 0 or furthest > 2 * HUGE then furthest = 0 end
end
local time, now
time, now, offset = clock(last, offset)

-- seen decodes when a process was last seen, its interval, when it started, and its
-- limit; nil where that is rubbish or too long ago.
local function seen(value)
  if not value or #value ~= 32 then return nil end
  local at, every, started, theirs = unpacked('<i8i8i8c8', value)
  if at < now - max(forget, remember) or at > now or every < 0 or every > HUGE then return nil end
  return at, every, started, theirs
end

-- smaller orders limits, in any way that is the same for all.
local function smaller(one, other)
  local full, burst = unpacked('<ff', one)
  local otherFull, otherBurst = unpacked('<ff', other)
  return full < otherFull or full == otherFull and burst < otherBurst
end

-- When this process was last seen, with this call, and whether it counts as silent.
local mine, mineEvery, _, mineLimit = seen(stored[1])
local present = now
if degraded and mine then present = max(mine, now - math.floor(forget / 2)) end
local hushed = now - present > silent

-- count reads every member except this one, in time linear in the fleet. It runs
-- when a process comes, comes back or leaves, and eight times in the time after which
-- a process is silent. Between them a call costs the same for any fleet; thousands
-- of processes are fine.
local function count()
  local others, quiet, gone, longest, shortest = 0, 0, 0, interval, interval
  local over, known, cursor = {}, {}, '0'
  local live = {}
  local low, high = limit, limit
  -- Of the silent and of the lost: when the first started, and when the first was last seen.
  local silents, lost = { HUGE, now }, { HUGE, now }
  local function add(to, started, at)
    to[1], to[2] = min(to[1], started), min(to[2], at)
  end
  -- replaced returns how many live processes have taken their place, by when they started.
  local function replaced(them)
    local n = 0
    for i = 1, #live do
      if live[i] > max(them[1] + NEWER, them[2] - forget) then n = n + 1 end
    end
    return n
  end
  repeat
    local scan = redis.call('HSCAN', key, cursor, 'MATCH', '\0p*', 'COUNT', '1000') -- pages are long, and stay where they are
    cursor = scan[1]
    local found = scan[2]
    for i = 1, #found, 2 do
      local field = found[i]
      local a, b = string.byte(field, 1, 2)
      if a == 0 and b == 112 and field ~= own and not known[field] then -- \0p
        known[field] = true -- a scan may give a field twice
        local at, every, started, theirs = seen(found[i + 1])
        if not at or now - at > silent and at - started < BRIEFLY then
          over[#over + 1] = field
        elseif at < now - forget then
          gone = gone + 1
          add(lost, started, at)
        else
          others = others + 1
          if now - at > silent then
            quiet = quiet + 1
            add(silents, started, at)
          else
            live[#live + 1] = started
          end
          longest, shortest = max(longest, every), min(shortest, every)
          if theirs ~= limit and theirs ~= UNKNOWN then
            if low == UNKNOWN or smaller(theirs, low) then low = theirs end
            if high == UNKNOWN or smaller(high, theirs) then high = theirs end
          end
        end
      end
    end
  until cursor == '0'
  if not hushed then
    live[#live + 1] = now - age
  elseif not leave then
    quiet = quiet + 1
    add(silents, now - age, present)
  end
  return over, others, quiet, replaced(silents), max(0, gone - replaced(lost)), longest, shortest, low, high
end

local over = {}
local stale = counted > now or now - counted >= math.floor(silent / 8)
if stale or leave or not mine or now - mine > min(forget, silent) or mineEvery ~= interval or mineLimit ~= limit then
  over, members, mute, newer, lost, slowest, fastest, least, largest = count()
  if not leave then members = members + 1 end
  counted = now
end

local writes = { meta, '' }
if leave then
  over[#over + 1] = own
else
  writes[3], writes[4] = own, pack('<i8i8i8c8', present, interval, now - age, limit)
end

local function pageOf(number)
  return math.floor((number - 1) / PAGE)
end

local function slot(page)
  page = page % KEPT
  return '\0t' .. string.char(page % 256, math.floor(page / 256))
end

-- sound reports whether a value can be this page, and not an earlier one of its slot.
-- The process that reads it checks the rest.
local function sound(value, page)
  return value and #value > 8 and #value <= LONGEST and pageOf(unpacked('<i8', value)) == page
end

-- The news of this process goes to the last page and to new ones, which take the
-- slots of the oldest. It comes back to the process with the rest.
local told, page, lines = {}, nil, nil
while at <= #request do
  local field, word, togo, demand, limit
  field, word, togo, demand, limit, at = unpacked('<Bc0Bi8i8c8', request, at)
  latest, furthest = latest + 1, max(furthest, now + togo)
  if word == 1 then furthest = now end -- a reset: it may have been of that key
  if pageOf(latest) ~= page then
    if page then told[page] = table.concat(lines) end
    page = pageOf(latest)
    local kept = redis.call('HMGET', key, slot(page))[1]
    lines = { sound(kept, page) and kept or pack('<i8', latest) }
  end
  lines[#lines + 1] = pack('<B', #field) .. field .. pack('<Bi8i8c8', word, now + togo, demand, limit)
end
if page then told[page] = table.concat(lines) end
for page, value in pairs(told) do
  writes[#writes + 1] = slot(page)
  writes[#writes + 1] = value
end

-- The reply has the oldest pages first. The process asks again for those that follow.
if heard > latest then heard = 0 end
heard = math.max(heard, (pageOf(latest) - KEPT + 1) * PAGE)
local upto, slots, news = latest, {}, {}
if heard < latest then
  local first = pageOf(heard + 1)
  local last = math.min(pageOf(latest), first + MOST - 1)
  upto = math.min(latest, (last + 1) * PAGE)
  for page = first, last do slots[#slots + 1] = slot(page) end
  local kept = redis.call('HMGET', key, unpack(slots))
  for i = 1, #slots do
    local value = told[first + i - 1] or kept[i]
    if sound(value, first + i - 1) then
      news[#news + 1] = pack('<i8', #value)
      news[#news + 1] = value
    end
  end
end

-- The hash outlives its news, and the processes that have not left, by a minute.
local lifetime = max(0, min(furthest - now, HUGE))
if members + lost > 0 then lifetime = max(lifetime, forget, remember) end
local renew
if lifetime + MINUTE < expire * 1000 - time - MINUTE then expire = 0 end
expire, renew = renewed(expire, time, lifetime + MINUTE)
writes[2] = pack('<i8i8i8i8i8i8i8i8i8i8i8c8c8i8', expire, now, offset, counted, members, mute, newer, lost, slowest, fastest, latest, least, largest, furthest)
redis.call('HSET', key, unpack(writes))
drop(key, over)
if renew then redis.call('PEXPIREAT', key, decimal(expire)) end

if hushed and not leave then mute = mute - 1 end
local other = UNKNOWN
if limit ~= UNKNOWN then other = largest ~= limit and largest or least ~= limit and least or UNKNOWN end
return pack('<Bi8i8i8i8i8i8i8i8i8i8c8', 0, now, members, mute, newer, lost, slowest, fastest, latest, heard, upto, other) .. table.concat(news)
