# Who may do what. Decided inside the process, or by an OPA that is given the same file.
#
# The input is
#
#	{"tenant", "persona_id", "action", "resource", "context": {
#	    "authenticated", "auth_required", "worker", "tenant_sessions",
#	    "subject", "issuer", "scopes": [...], ...
#	}}
#
# and the answer is the rule `decision`. Whatever is absent from the input, or is not of its kind, speaks against the one
# who asks.
package soma.policy

import rego.v1

# What everybody may do who has proved who they are. An action that is in no list here is denied, to everybody.
member_actions := {
	"attachments.delete",
	"attachments.download",
	"attachments.links.create",
	"attachments.links.read",
	"attachments.links.revoke",
	"attachments.upload",
	"attachments.upload.file",
	"auth.logins.end",
	"auth.logins.read",
	"auth.session",
	"config.read",
	"conversation.delete",
	"conversation.list",
	"conversation.pause",
	"conversation.read",
	"conversation.rename",
	"conversation.reset",
	"conversation.send",
	"conversation.stop",
	"memory.receipt",
}

# What touches the memories of a whole tenant, or the settings of the installation, needs an admin, as do all actions
# `admin.*`. Which admins may change the settings, the process knows besides.
admin_actions := {
	"memory.delete",
	"memory.export",
	"memory.export.end",
	"memory.export.read",
	"memory.read",
	"memory.write",
	"settings.read",
	"settings.update",
}

# Where actors may write memories, and recall them.
memory_resources := {"conversation_memory", "somabrain"}

default allow := false

allow if decision.allow

# The first line that fits counts; the last one always does.
decision := {"allow": true, "rule": "public", "reason": "everybody may do this", "reach": reach} if {
	input.action == "public"
} else := {"allow": true, "rule": "member", "reason": "everybody of the tenant may do this", "reach": reach} if {
	member
	input.action in member_actions
} else := {"allow": true, "rule": "auth-off", "reason": "nobody has to say who they are", "reach": "tenant"} if {
	auth_off
	known_action
} else := {"allow": true, "rule": "admin-scope", "reason": "an admin may do this", "reach": "tenant"} if {
	admin
	admin_action
} else := {"allow": true, "rule": "worker", "reason": "actors may do this for a session", "reach": "tenant"} if {
	worker
	worker_may
} else := {"allow": true, "rule": "tool", "reason": "this tool may be used", "reach": reach} if {
	input.action == "tool.execute"
	known_asker
	tool_may
} else := {"allow": false, "rule": "authentication", "reason": "authentication required", "reach": "own"} if {
	not known_asker
} else := {"allow": false, "rule": "tool", "reason": "this tool may not be used like this", "reach": "own"} if {
	input.action == "tool.execute"
} else := {"allow": false, "rule": "worker", "reason": "actors may not do this", "reach": "own"} if {
	worker
} else := {"allow": false, "rule": "admin-scope", "reason": "admin scope required", "reach": "own"} if {
	admin_action
} else := {"allow": false, "rule": "unknown-action", "reason": "no rule knows this action", "reach": "own"}

# Whose sessions are meant: those of the one who asks, or all of the tenant.
default reach := "own"

reach := "tenant" if admin

reach := "tenant" if {
	member
	"sessions:tenant" in scopes
}

reach := "tenant" if {
	member
	input.context.tenant_sessions == true
}

reach := "tenant" if auth_off

reach := "tenant" if worker

# An actor that acts for a session. It has no rights of people, whatever else is said of it.
worker if input.context.worker == true

# Somebody who has proved who they are.
member if {
	input.context.authenticated == true
	not worker
}

# Nobody has to prove who they are, and nobody did.
auth_off if {
	input.context.auth_required == false
	input.context.authenticated == false
	not worker
}

known_asker if member

known_asker if auth_off

known_asker if worker

admin if {
	member
	"admin" in scopes
}

admin if {
	member
	"keys:manage" in scopes
}

scopes := input.context.scopes if is_array(input.context.scopes)

known_action if input.action in member_actions

known_action if admin_action

admin_action if input.action in admin_actions

admin_action if {
	is_string(input.action)
	startswith(input.action, "admin.")
}

worker_may if {
	input.action == "conversation.send"
	input.resource == "message"
}

worker_may if {
	input.action in {"memory.recall", "memory.write"}
	input.resource in memory_resources
}

# A file of a message, before it is shown to the model: who sent it could see it.
worker_may if {
	input.action == "attachments.show"
	is_string(input.resource)
}

# What workers in other processes ask the door for, by the internal token.
worker_may if {
	is_string(input.action)
	startswith(input.action, "internal.")
}

tool_may if input.resource == "echo"

tool_may if {
	input.resource == "timestamp"
	not denied_format
}

tool_may if {
	input.resource == "document_ingest"
	input.tenant == "public"
}

denied_format if input.context.args.format == "DENY"
