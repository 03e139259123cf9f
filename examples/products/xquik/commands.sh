# The page's script.
response=$(curl -sS -X POST "$URL/api/v1/api-keys" \
  -H "Cookie: session_token=$SESSION_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{"name": "Production"}')
full_key=$(jq -r '.fullKey' <<<"$response")
key_id=$(jq -r '.id' <<<"$response")
key_prefix=$(jq -r '.prefix' <<<"$response")
# Store $full_key in your secret manager; do not print it in logs.
printf 'Created API key %s (%s)\n' "$key_id" "$key_prefix"

# A further key, made with the first; the list; and the first key revoked.
second=$(curl -sS "$URL/api/v1/api-keys" -H "x-api-key: $full_key" \
  -H "Content-Type: application/json" -d '{}' | jq -r .fullKey)
curl -sS "$URL/api/v1/api-keys" -H "x-api-key: $second"
curl -sS -X DELETE "$URL/api/v1/api-keys/$key_id" -H "Authorization: Bearer $second"
curl -sS "$URL/api/v1/account" -H "x-api-key: $full_key"
