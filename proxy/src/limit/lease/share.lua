-- One edge's share of one subject's rate. KEYS[1]: the shares, by edge. ARGV: this edge; the part of the rate that it wants;
-- the number of the last answer that reached it; milliseconds that a share is its own; the sum of all shares. Parts are
-- 4096ths. Returns the number of this answer and the share.
--
-- Of each edge is kept: number and part of the last answer and until when that holds; part and end of what it may hold
-- besides, because nobody knows yet whether the last answer has reached it; what it wants. An edge is charged with the
-- greater of both parts, so the sum of what all edges believe to have is never more than the pool, whatever answer is lost.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local edge, want, seen = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local lease, pool = tonumber(ARGV[4]), tonumber(ARGV[5])

local wants, total, others = { want }, want, 0
local number, before, before_until = 0, 0, 0
local rows = redis.call('HGETALL', KEYS[1])
for i = 1, #rows, 2 do
  local n, part, ends, besides, besides_ends, wanted =
    string.match(rows[i + 1], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  n, part, ends = tonumber(n), tonumber(part), tonumber(ends)
  besides, besides_ends, wanted = tonumber(besides), tonumber(besides_ends), tonumber(wanted)
  if ends <= now then part = 0 end
  if besides_ends <= now then besides = 0 end
  if rows[i] == edge then
    number, before, before_until = n, part, ends
    if seen ~= n and besides > 0 then
      before, before_until = math.max(part, besides), math.max(ends, besides_ends)
    end
  elseif ends <= now and besides_ends <= now then
    redis.call('HDEL', KEYS[1], rows[i])
  else
    others = others + math.max(part, besides)
    table.insert(wants, wanted)
    total = total + wanted
  end
end

-- Max-min fairness: the small wants are met, the great ones get the same of what is left.
table.sort(wants)
local left, share = pool, nil
for i, wanted in ipairs(wants) do
  local fair = left / (#wants - i + 1)
  if wanted > fair then
    share = math.min(want, fair)
    break
  end
  left = left - wanted
end
if not share then
  -- All are met; what is left goes to where it will be wanted most likely.
  share = want + (total > 0 and left * want / total or left / #wants)
end
share = math.max(0, math.floor(math.min(share, pool - others)))

number = number + 1
redis.call('HSET', KEYS[1], edge,
  string.format('%d %d %d %d %d %d', number, share, now + lease, before, before_until, want))
redis.call('PEXPIRE', KEYS[1], 4 * lease)
return { number, share }
