-- Refuses a JSON body that says what no RPC could hear.
--
-- Envoy's transcoder leaves out the fields that it does not know. So a key whose
-- "expireTime" is misspelt would live for ever, and a declaration whose "scopes" are
-- would take them all away. Here a body is read before it gets there.
--
-- What is let through is plain JSON, so that the transcoder, which takes more than that,
-- cannot read it differently. Values are left to it.
--
-- METHODS and FIELDS stand above: see bodies.py.

local MAX_DEPTH = 32
-- No field's name is so long, and every key is longer.
local MAX_SHOWN = 22

local function refuse(message)
  error({message = message}, 0)
end

local function after_space(text, at)
  return string.find(text, "[^ \t\r\n]", at) or #text + 1
end

-- A name as it can be told to whoever sent it, and to whoever keeps the answers.
local function shown(name)
  return #name <= MAX_SHOWN and string.find(name, "^[%w_]+$") and name or "(an odd name)"
end

local function refuse_malformed(at)
  refuse("the body is not JSON, from its byte " .. at .. " on")
end

-- What is between the quotes, escapes as they are, and where it goes on.
local function read_string(text, at)
  if string.sub(text, at, at) ~= '"' then
    refuse_malformed(at)
  end
  local from = at + 1
  while true do
    local found = string.find(text, '["\\%z\1-\31]', from)
    local mark = found and string.sub(text, found, found)
    if mark == '"' then
      return string.sub(text, at + 1, found - 1), found + 1
    elseif mark ~= "\\" then
      refuse_malformed(found or #text + 1)
    end
    from = found + 2
  end
end

local read_value

-- The members of an object or the elements of an array: `read_one` reads each.
local function read_many(text, at, close, read_one)
  at = after_space(text, at + 1)
  if string.sub(text, at, at) == close then
    return at + 1
  end
  while true do
    at = after_space(text, read_one(at))
    local mark = string.sub(text, at, at)
    if mark == close then
      return at + 1
    elseif mark ~= "," then
      refuse_malformed(at)
    end
    at = after_space(text, at + 1)
  end
end

-- `kind` names what FIELDS has of the object; true: whatever it likes.
local function read_object(text, at, kind, path, depth)
  local fields = FIELDS[kind]
  local seen = {}
  return read_many(text, at, "}", function(start)
    local name, stop = read_string(text, start)
    local full = path .. shown(name)
    local inner = true
    if fields then
      inner = fields[name] or fields["*"]
      if not inner then
        refuse('there is no field "' .. full .. '" here')
      end
    end
    if seen[name] then
      refuse('the field "' .. full .. '" comes twice')
    end
    seen[name] = true
    stop = after_space(text, stop)
    if string.sub(text, stop, stop) ~= ":" then
      refuse_malformed(stop)
    end
    return read_value(text, after_space(text, stop + 1), inner, full .. ".", depth + 1)
  end)
end

read_value = function(text, at, kind, path, depth)
  if depth > MAX_DEPTH then
    refuse("the body is nested too deeply")
  end
  local mark = string.sub(text, at, at)
  if mark == "{" then
    return read_object(text, at, kind, path, depth)
  elseif mark == "[" then
    return read_many(text, at, "]", function(start)
      return read_value(text, start, kind, path, depth + 1)
    end)
  elseif mark == '"' then
    local _, stop = read_string(text, at)
    return stop
  end
  local _, stop = string.find(text, "^[%w.+-]+", at)
  if not stop then
    refuse_malformed(at)
  end
  return stop + 1
end

local function read_body(text, kind)
  local at = after_space(text, 1)
  if string.sub(text, at, at) ~= "{" then
    refuse("the body is no JSON object")
  end
  at = after_space(text, read_object(text, at, kind, "", 1))
  if at <= #text then
    refuse_malformed(at)
  end
end

local function kind_of(verb, path)
  path = string.gsub(path, "%?.*", "")
  for _, method in ipairs(METHODS) do
    if method.verb == verb and string.find(path, method.path) then
      return method.kind
    end
  end
end

function envoy_on_request(handle)
  local body = handle:body()
  if not body or body:length() == 0 then
    return
  end
  local headers = handle:headers()
  local kind = kind_of(headers:get(":method"), headers:get(":path"))
  if not kind then
    handle:respond({[":status"] = "404"}, "there is no such method")
    return
  end
  local good, problem = pcall(read_body, body:getBytes(0, body:length()), kind)
  if not good then
    local message = type(problem) == "table" and problem.message
    handle:respond({[":status"] = "400"}, message or "the body cannot be read")
  end
end
