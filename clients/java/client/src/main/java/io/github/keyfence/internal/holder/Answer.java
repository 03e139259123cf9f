package io.github.keyfence.internal.holder;

import io.github.keyfence.v1.Principal;
import io.github.keyfence.v1.Reason;
import java.util.List;

/** What a check is answered with from memory. */
public record Answer(
    Reason reason, List<String> missingScopes, Principal principal, long revision) {}
