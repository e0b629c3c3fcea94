-- What our larger scripts end with: they do a list of operations, at once and in their order.
--
-- KEYS[i]  begins the keys of the thing that operations with the number i are about
--   KEYS[1]:said:<client>
--          what the client's last call was answered: asked again after a lost connection, it gets the same
-- ARGV[1]  the client    ARGV[2]  the number of its call    ARGV[3]  the operations: {{i, name, arguments ...} ...}

local KEPT_SAID = '600000' -- milliseconds: longer than any client asks again

local operations = cmsgpack.unpack(ARGV[3])
local receipt, changes, needs_memory = KEYS[1] .. ':said:' .. ARGV[1], false, false
for _, operation in ipairs(operations) do
  changes = changes or does[operation[2]] ~= nil
  needs_memory = needs_memory or grows(operation)
end

local said = changes and call('GET', receipt)
said = said and cmsgpack.unpack(said)
said = said and said[1] == ARGV[2] and said[2]
if changes and not said and not needs_memory then
  call('DEL', receipt) -- needs no memory: so nothing after it is refused by a server that is full
end

local answers, kept = {}, {}
for i, operation in ipairs(operations) do
  local q, name, once = KEYS[operation[1]], operation[2], said and said[i]
  if once then
    answers[i] = again[name] and again[name](q, once) or once
  else
    local act = does[name] or looks[name]
    answers[i], once = act(q, operation[3], operation[4], operation[5], operation[6])
  end
  kept[i] = does[name] and (once or answers[i]) or false
end
if changes and not said then
  call('SET', receipt, cmsgpack.pack({ARGV[2], kept}), 'PX', KEPT_SAID)
end
return answers
