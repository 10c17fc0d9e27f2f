# Reroot. `make demo` and `make test` do all the set-up themselves; the rest is for packagers and developers.

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
INSTALL ?= install

# Where rustup puts cargo, for shells that have not been told.
export PATH := $(PATH):$(HOME)/.cargo/bin

TARGET := $(or $(CARGO_TARGET_DIR),target)
PROGRAM := $(TARGET)/release/prlctl
# It is told apart by its name.
OTHER_NAMES := vzpkg vzctl vzlist
# Tests that could not run write themselves down here.
NOT_RUN := $(TARGET)/test-hosts/tests-not-run.txt

CONF := $(DESTDIR)/etc/vz/conf
UNITS := $(DESTDIR)/etc/systemd/system
MAN := $(DESTDIR)$(PREFIX)/share/man/man8
BASH_COMPLETIONS := $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSH_COMPLETIONS := $(DESTDIR)$(PREFIX)/share/zsh/site-functions
FISH_COMPLETIONS := $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

# What only root can test: the engine's tests make files of user 0.
WITHOUT_ROOT := $(if $(filter 0,$(shell id -u)),,--exclude engine)

.DEFAULT_GOAL := help
.PHONY: help demo test vm-test build release install uninstall bench torture mutations hostile fuzz clean setup

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  PREFIX=$(PREFIX)  DESTDIR=$(DESTDIR)"

demo: ## build it and see it work: a container breaks and gets a new root
	@share/demo

test: setup ## run every test that can run here
	@$(CARGO) build --workspace --locked
	@for name in $(OTHER_NAMES); do ln -sfn prlctl $(TARGET)/debug/$$name; done
	@rm -f $(NOT_RUN)
	@if [ "$$(id -u)" -ne 0 ]; then \
		mkdir -p $(dir $(NOT_RUN)); \
		$(CARGO) test --quiet --package engine --locked -- --list 2>/dev/null | \
			sed -n 's/\(.*\): test$$/NOT RUN: \1: it makes files of user 0/p' >$(NOT_RUN); \
	fi
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --workspace $(WITHOUT_ROOT) --locked --no-fail-fast; \
	else \
		$(CARGO) test --workspace $(WITHOUT_ROOT) --locked --no-fail-fast; \
	fi; code=$$?; \
	if [ -s $(NOT_RUN) ]; then \
		sort -u $(NOT_RUN); echo "$$(sort -u $(NOT_RUN) | wc -l) tests could not run here; as root on a host that may mount, they do"; \
	fi; \
	exit $$code

# The machine, and what of it to run: `quick`, `installed`, `end_to_end`, `cuts`, or all.
VM_TEST ?=
vm-test: setup ## run a stock Debian in an emulator: cgroup v2, power cuts (CUTS=3 SEED=1)
	@MAKE='$(MAKE)' CARGO='$(CARGO)' share/vm/build
	@REROOT_VM_CUTS='$(CUTS)' REROOT_VM_SEED='$(SEED)' REROOT_VM_TESTS='$(TESTS)' $(CARGO) test --quiet --locked \
		--package prlctl --test vm -- --ignored --nocapture --test-threads=1 $(VM_TEST)

build: setup ## build the program for development
	$(CARGO) build --workspace --locked
	@for name in $(OTHER_NAMES); do ln -sfn prlctl $(TARGET)/debug/$$name; done

release: setup ## build the program for use
	$(CARGO) build --release --locked --package prlctl
	@for name in $(OTHER_NAMES); do ln -sfn prlctl $(TARGET)/release/$$name; done

# Not rebuilt here: `make release` as yourself, `sudo make install` as root.
$(PROGRAM):
	@$(MAKE) --no-print-directory release

define newline


endef

# keep-or-install MODE FILE DESTINATION: what the administrator has is never overwritten.
define keep-or-install
	@if [ ! -e '$(3)' ]; then \
		$(INSTALL) -m $(1) $(2) '$(3)'; \
	elif ! cmp -s $(2) '$(3)'; then \
		echo 'kept $(3): it differs from $(2)'; \
	fi
endef

install: $(PROGRAM) ## install programs, man pages, completions, samples and the unit
	@$(INSTALL) -d '$(DESTDIR)$(PREFIX)/sbin' '$(MAN)' '$(UNITS)' '$(DESTDIR)/etc/vz'
	@[ -d '$(CONF)' ] || $(INSTALL) -d -m 700 '$(CONF)'
	@$(INSTALL) -d '$(BASH_COMPLETIONS)' '$(ZSH_COMPLETIONS)' '$(FISH_COMPLETIONS)'
	@$(INSTALL) -m 755 $(PROGRAM) '$(DESTDIR)$(PREFIX)/sbin/prlctl'
	@for name in $(OTHER_NAMES); do ln -sfn prlctl '$(DESTDIR)$(PREFIX)/sbin'/$$name; done
	@$(PROGRAM) generate man '$(MAN)'
	@made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && \
		$(PROGRAM) generate completions "$$made" && \
		$(INSTALL) -m 644 "$$made"/bash/* '$(BASH_COMPLETIONS)' && \
		$(INSTALL) -m 644 "$$made"/zsh/* '$(ZSH_COMPLETIONS)' && \
		$(INSTALL) -m 644 "$$made"/fish/* '$(FISH_COMPLETIONS)'
	$(call keep-or-install,755,share/conf/vps.reinstall.sample,$(CONF)/vps.reinstall.sample)
	$(call keep-or-install,755,share/conf/vps.configure.sample,$(CONF)/vps.configure.sample)
	$(call keep-or-install,644,share/conf/ve-basic.conf-sample,$(CONF)/ve-basic.conf-sample)
	$(call keep-or-install,644,share/conf/vz.conf,$(DESTDIR)/etc/vz/vz.conf)
	@$(INSTALL) -d '$(DESTDIR)/etc/vz/keep.d'
	$(foreach set,$(notdir $(wildcard share/keep.d/*.conf)),$(call keep-or-install,644,share/keep.d/$(set),$(DESTDIR)/etc/vz/keep.d/$(set))$(newline))
	@$(INSTALL) -d '$(DESTDIR)/etc/vz/templates.d'
	$(foreach recipe,$(notdir $(wildcard share/templates.d/*)),$(call keep-or-install,644,share/templates.d/$(recipe),$(DESTDIR)/etc/vz/templates.d/$(recipe))$(newline))
	@$(INSTALL) -d '$(UNITS)/nftables.service.d'
	@sed 's|@PREFIX@|$(PREFIX)|g' share/systemd/nftables-reroot.conf >'$(UNITS)/nftables.service.d/reroot.conf'
	@unit=$$(mktemp) && trap 'rm -f "$$unit"' EXIT && \
		sed 's|@PREFIX@|$(PREFIX)|g' share/systemd/reroot.service >"$$unit" && \
		if [ ! -e '$(UNITS)/reroot.service' ]; then \
			$(INSTALL) -m 644 "$$unit" '$(UNITS)/reroot.service'; \
		elif ! cmp -s "$$unit" '$(UNITS)/reroot.service'; then \
			echo 'kept $(UNITS)/reroot.service: it differs from share/systemd/reroot.service'; \
		fi
	@echo 'installed in $(DESTDIR)$(PREFIX)'
	@[ -n '$(DESTDIR)' ] || echo 'run `systemctl enable --now reroot` to bring the containers up with the host'

uninstall: ## remove what install made, but no configuration and no container
	@unit=$$(mktemp) && trap 'rm -f "$$unit"' EXIT && \
		sed 's|@PREFIX@|$(PREFIX)|g' share/systemd/reroot.service >"$$unit" && \
		if [ -e '$(UNITS)/reroot.service' ] && ! cmp -s "$$unit" '$(UNITS)/reroot.service'; then \
			echo 'kept $(UNITS)/reroot.service: it differs from share/systemd/reroot.service'; \
		else \
			rm -f '$(UNITS)/reroot.service'; \
		fi
	@rm -f '$(UNITS)/nftables.service.d/reroot.conf'
	@rmdir '$(UNITS)/nftables.service.d' 2>/dev/null || :
	@for name in prlctl $(OTHER_NAMES); do \
		rm -f "$(DESTDIR)$(PREFIX)/sbin/$$name" '$(MAN)'/$$name.8 '$(MAN)'/$$name-*.8; \
		rm -f "$(BASH_COMPLETIONS)/$$name" "$(ZSH_COMPLETIONS)/_$$name" "$(FISH_COMPLETIONS)/$$name.fish"; \
	done
	@echo 'kept $(DESTDIR)/etc/vz and $(DESTDIR)/vz: the configuration and the containers are yours'

bench: release ## measure against the peers
	@benches/peers.sh
	@benches/address.sh
	@benches/many.sh

# How long `make torture` may take, and in which order it takes the points (without: where the last slice ended).
SLICE ?= 20m
SEED ?=

# `make mutations` proves that these sweeps would see what is wrong.
torture: setup ## kill, fail and cut operations at every instant for SLICE (20m); SEED repeats one
	@$(CARGO) build --workspace --locked
	@$(TARGET)/debug/torture run --slice $(SLICE) $(if $(SEED),--seed $(SEED)); code=$$?; \
	$(TARGET)/debug/torture report; [ $$code -eq 0 ] || exit $$code; $(MAKE) --no-print-directory fuzz

# Is `make torture` worth anything? Each guard of the program is taken away, and a sweep must see it.
mutations: setup ## take the guards away one at a time: a sweep must turn red each time (ONLY=NAME)
	@$(CARGO) build --workspace --locked
	@$(TARGET)/debug/torture mutations $(if $(ONLY),--only $(ONLY))

# One target, or all of them one after the other, for so many seconds each. It needs a nightly compiler and `cargo install cargo-fuzz`.
TARGET_NAME ?=
TIME ?= 60
fuzz: setup ## give every parser what nobody would write, for TIME seconds each (TARGET_NAME=conf)
	@if ! $(CARGO) fuzz --version >/dev/null 2>&1 || ! $(CARGO) +nightly --version >/dev/null 2>&1; then \
		echo 'NOT RUN: fuzzing wants a nightly compiler and `cargo install cargo-fuzz`; `make test` runs the corpus and some thousand changes of it'; exit 0; \
	fi; \
	for name in $(or $(TARGET_NAME),$(notdir $(wildcard fuzz/corpus/*))); do \
		new=$$(mktemp -d); echo "== $$name"; \
		$(CARGO) +nightly fuzz run --fuzz-dir fuzz $$name $$new fuzz/corpus/$$name -- -max_total_time=$(TIME) -timeout=10 -print_final_stats=1 \
			>$$new.log 2>&1; code=$$?; \
		grep -E 'panicked|ERROR|error|Test unit written|stat::number_of_executed|stat::average_exec' $$new.log; \
		rm -rf $$new $$new.log; [ "$$code" -eq 0 ] || exit 1; \
	done

# What must be seen is seen: with PLAIN=1 the program opens paths in roots by name, and as many roots as possible have to be red.
PLAIN ?=
ATTACKS := $(TARGET)/test-hosts/attacks.jsonl
hostile: build ## attack it: hostile roots and archives, and escapes from containers; a table (PLAIN=1: a program that thinks of no harm)
ifeq ($(PLAIN),)
	@rm -f $(ATTACKS)
	@$(CARGO) nextest run --locked --no-fail-fast --package prlctl --test root_hostile --test root_hostile_archives --test root_escape; code=$$?; \
	$(TARGET)/debug/torture attacks $(ATTACKS) || code=1; exit $$code
else
	@$(CARGO) build --quiet --locked --package prlctl --features mutations --target-dir $(TARGET)/mutations
	@for name in $(OTHER_NAMES); do ln -sfn prlctl $(TARGET)/mutations/debug/$$name; done
	@rm -f $(TARGET)/mutations/test-hosts/attacks.jsonl
	@REROOT_HOSTILE_PROGRAM=$(abspath $(TARGET))/mutations/debug/prlctl REROOT_MUTATION=plain-path \
		$(CARGO) nextest run --locked --no-fail-fast --package prlctl --test root_hostile >/dev/null 2>&1 || true
	@$(TARGET)/debug/torture attacks $(TARGET)/mutations/test-hosts/attacks.jsonl | grep -v ' held$$' || true
	@red=$$($(TARGET)/debug/torture attacks $(TARGET)/mutations/test-hosts/attacks.jsonl | grep -c 'FOUND SOMETHING$$'); \
	echo "$$red roots found out that paths are opened by name (wanted: 60)"; [ "$$red" -ge 60 ]
endif

clean: ## remove what was built
	$(CARGO) clean

setup: ## install the packages that are missing here
	@share/setup
