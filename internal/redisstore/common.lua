-- Shared by both scripts, put in front of each. Everything that is stored or
-- sent is packed little endian; numbers are integers below 2^53, exact in a double.

local struct = rawget(_G, 'struct')
if not struct then
  -- A server without the struct library (miniredis): the few formats used here, in plain Lua.
  local byte, char, floor = string.byte, string.char, math.floor

  local function take(s, at, size)
    local n, unit = 0, 1
    for i = at, at + size - 1 do
      n = n + byte(s, i) * unit
      unit = unit * 256
    end
    return n
  end

  local function put(n, size)
    local s = {}
    for i = 1, size do
      s[i] = char(n % 256)
      n = floor(n / 256)
    end
    return table.concat(s)
  end

  local read = {
    B = function(s, at) return take(s, at, 1), at + 1 end,
    I2 = function(s, at) return take(s, at, 2), at + 2 end,
    i8 = function(s, at)
      local high = take(s, at + 4, 4)
      if high >= 2147483648 then high = high - 4294967296 end
      return high * 4294967296 + take(s, at, 4), at + 8
    end,
    f = function(s, at) -- 0 for infinity and NaN: such a limit is invalid
      local bits = take(s, at, 4)
      local power, part = floor(bits / 8388608) % 256, bits % 8388608 / 8388608
      if bits >= 2147483648 or power == 0 or power == 255 then return 0, at + 4 end
      return math.ldexp(1 + part, power - 127), at + 4
    end,
  }

  local write = {
    c8 = function(s) return s end,
    B = function(n) return put(n, 1) end,
    i8 = function(n)
      local high = floor(n / 4294967296)
      local low = n - high * 4294967296
      if high < 0 then high = high + 4294967296 end
      return put(low, 4) .. put(high, 4)
    end,
  }

  struct = {
    unpack = function(format, s, at)
      at = at or 1
      local out, n = {}, 0
      for item in string.gmatch(format, '%a%d*') do
        if item == 'c0' then -- as many bytes as the number before says, in its place
          local size = out[n]
          if at + size - 1 > #s then error('data string too short') end
          out[n] = string.sub(s, at, at + size - 1)
          at = at + size
        elseif item == 'c8' then
          n = n + 1
          out[n], at = string.sub(s, at, at + 7), at + 8
        else
          n = n + 1
          out[n], at = read[item](s, at)
        end
      end
      out[n + 1] = at
      return unpack(out, 1, n + 1)
    end,

    pack = function(format, ...)
      local out, n, values = {}, 0, { ... }
      for item in string.gmatch(format, '%a%d*') do
        n = n + 1
        out[n] = write[item](values[n])
      end
      return table.concat(out)
    end,
  }
end

local pack, unpacked = struct.pack, struct.unpack

-- The largest number in the data that is valid.
local HUGE = 4503599627370496 -- 2^52

local MINUTE = 60000000 -- in microseconds

-- The limit of a key whose limit was never written, or is invalid.
local UNKNOWN = string.rep('\0', 8)

-- Numbers for redis.call: Lua itself would write 1e+15.
local function decimal(n)
  return string.format('%.0f', n)
end

-- clock returns the time of TIME and the clock of the hash, which runs with it
-- but never goes back: where TIME did (another primary, a corrected clock), the
-- offset between the two grows.
local function clock(last, offset)
  local parts = redis.call('TIME')
  local time = parts[1] * 1000000 + parts[2]
  if last < 0 or last > HUGE or offset < 0 or time + offset > HUGE then
    last, offset = 0, 0
  end
  if time + offset < last then offset = last - time end
  return time, time + offset, offset
end

-- renewed returns when the hash is to expire, in TIME's milliseconds, if it is
-- to live for so many microseconds more, and whether that has to be set: it is
-- set 20 s too late, so that most calls need not.
local function renewed(expire, time, lifetime)
  local need = math.ceil((time + lifetime) / 1000)
  if expire >= need then return expire, false end
  return need + 20000, true
end

-- drop deletes fields, few enough at a time for the Lua stack.
local function drop(key, fields)
  for i = 1, #fields, 500 do
    redis.call('HDEL', key, unpack(fields, i, math.min(i + 499, #fields)))
  end
end
