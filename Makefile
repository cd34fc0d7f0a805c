# make build   the four binaries, in bin/; those of another platform in bin/<os>-<arch>/
# make deb     Debian packages, in bin/deb/       make image  images for containers, in bin/image/
# make demo    a cloud, an edge and 50 simulated devices, with a live table
# make test    unit and conformance tests      make e2e   the real binaries, killed at random
# make check   formatting, vet (also for the smallest Raspberry Pi), staticcheck, the floors of the house;
#              with and without the build tag weirtest, with which tests break rules of the product
# make fuzz    every fuzz target, a few seconds each
# make bench   the figures of the README        make soak  the long rounds
SHELL := /bin/bash

# Without a tag: how many commits there are, and the last.
VERSION := $(shell git describe --tags --dirty 2>/dev/null || \
  { git rev-parse HEAD >/dev/null 2>&1 && echo $$(git rev-list --count HEAD)-g$$(git describe --always --dirty); } || echo devel)
LDFLAGS := -s -w -X github.com/weirmq/weir/configs.version=$(VERSION)

# The platform, as GOOS, GOARCH and GOARM say, and where its binaries go.
OS := $(shell go env GOOS)
ARCH := $(shell go env GOARCH)
ARM := $(if $(filter arm,$(ARCH)),$(shell go env GOARM | cut -d, -f1))
HOST := $(shell go env GOHOSTOS)-$(shell go env GOHOSTARCH)
BIN := bin$(if $(filter-out $(HOST),$(OS)-$(ARCH)),/$(OS)-$(ARCH)$(addprefix v,$(ARM)))

# What packages and images are made for: GOARCH, and GOARM behind it. make deb PLATFORMS=amd64
# makes those of one platform.
PLATFORMS ?= amd64 arm64 arm6

# The race detector needs a C compiler.
RACE := $(shell command -v gcc >/dev/null && echo -race)
CACHE := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/weir/bin
MINIO := $(CACHE)/minio
MINIO_VERSION := v0.0.0-20260212201848-7aac2a2c5b7c
VERSITYGW := $(CACHE)/versitygw
VERSITYGW_VERSION := v1.8.0
HDFS := $(patsubst %/bin,%/hdfs,$(CACHE))
CLIENTS := $(patsubst %/bin,%/clients,$(CACHE))
NFPM := $(CACHE)/nfpm
NFPM_VERSION := v2.45.2
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Shows go test's output, and the skipped tests at its end.
REPORT := mkdir -p bin && go build -o bin/report ./e2e/report
# Models, fault matrices and random lives that take too long with the race detector: with it
# only a part of them is run, and all of them without it.
LONG := ./storage/commitlog ./storage/journal ./storage/file/row ./cloud/queue/state
PACKAGES = $$(go list ./... | grep -v /e2e)

# With this tag single rules can be broken, so that tests show that they would notice. What is
# shipped or measured is built without it.
TAGS := -tags weirtest
FUZZTIME ?= 10s
DEMO_SECONDS ?= 0

export WEIR_MINIO ?= $(MINIO)
export WEIR_VERSITYGW ?= $(VERSITYGW)
export WEIR_HDFS_JARS ?= $(HDFS)
export WEIR_CLIENTS ?= $(CLIENTS)
export WEIR_NFPM ?= $(NFPM)

.PHONY: build demo deb image test check fuzz bench e2e soak clean services clients soak-clients

build:
	@mkdir -p $(BIN)
	CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)" -o $(BIN)/ ./cloud/weir-cloud ./edge/weir-edge ./cloud/weirctl ./firmware-sim

demo:
	@echo "building weir-cloud, weir-edge, weirctl and firmware-sim into bin/ (the first time, about a minute)"
	@$(MAKE) -s build
	@go build -o bin/demo ./e2e/demo && exec bin/demo --seconds $(DEMO_SECONDS)

# Each platform is a make of its own: its binaries first, then what is made of them.
deb: $(NFPM)
image:
deb image:
	@mkdir -p bin && GOOS= GOARCH= GOARM= go build -o bin/packages ./e2e/packages
	@$(foreach p,$(PLATFORMS),GOOS=linux GOARCH=$(p:arm6=arm) GOARM=$(if $(filter arm6,$(p)),6) $(MAKE) -s build && \
	  bin/packages $@ --arch $(p) --of $(VERSION) --date $(or $(shell git log -1 --format=%ct 2>/dev/null),0) --nfpm $(NFPM) --out bin/$@ \
	    --bin $$(GOOS=linux GOARCH=$(p:arm6=arm) GOARM=$(if $(filter arm6,$(p)),6) $(MAKE) -s print-bin) &&) true

.PHONY: print-bin
print-bin:
	@echo $(BIN)

$(NFPM):
	@mkdir -p $(CACHE)
	@echo "building nfpm for the packages (once, about a minute)"
	@cd / && GOOS= GOARCH= GOARM= GOBIN=$(CACHE) go install github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION)

test: services
ifeq ($(RACE),)
	@echo "NOTE: no gcc, so the tests run without the race detector (apt-get install gcc)"
endif
	@$(REPORT)
	set -o pipefail; go test $(TAGS) $(RACE) -json -timeout 15m $(PACKAGES) | bin/report
	set -o pipefail; go test $(TAGS) -json -timeout 15m $(LONG) | bin/report

check:
	@files=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$files" ]; then echo "not gofmt-ed:"; echo "$$files"; exit 1; fi
	go vet ./...
	go vet $(TAGS) ./...
	CGO_ENABLED=0 GOARCH=arm GOARM=6 go vet ./...
	$(STATICCHECK) ./...
	$(STATICCHECK) $(TAGS) ./...
	go test ./e2e -count=1 -run 'TestImportsGoDown|TestThirdParty|TestBans|TestTopLevel'

e2e: build services clients $(NFPM)
	@$(REPORT)
	set -o pipefail; go test $(TAGS) -json -count=1 -timeout 25m ./e2e/... | bin/report

soak: build services clients soak-clients $(NFPM)
	WEIR_SOAK=1 go test $(TAGS) -count=1 -timeout 60m -v ./storage/journal/model
	WEIR_SOAK=1 go test $(TAGS) -count=1 -timeout 60m ./storage/open
	WEIR_SOAK=1 go test $(TAGS) -count=1 -timeout 60m -run '^TestAbsence$$' ./edge/wal
	WEIR_SOAK=1 go test $(TAGS) -count=1 -timeout 170m -v -p 1 ./e2e/...

fuzz:
	@for pkg in $$(grep -rl --include='*_test.go' 'func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -ho 'func Fuzz[A-Za-z0-9_]*' $$pkg/*_test.go | cut -d' ' -f2); do \
	    echo "== $$pkg $$target"; go test $$pkg -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) || exit 1; \
	  done; done

bench: build services clients
	go test -run '^$$' -bench . -benchmem -timeout 60m $(PACKAGES)
	go test -count=1 -timeout 90m -v -p 1 ./e2e/bench/... ./e2e/zero -run '^TestCost$$' -bench . -benchtime 1x

# Real servers for the tests of the buckets: MinIO and versitygw, built once from
# their Go modules (about three minutes), and Hadoop from Maven Central. Redis and
# MariaDB are the distribution's (apt-get install redis-server mariadb-server). The
# tests of what is not there are skipped, loudly.
services: $(MINIO) $(VERSITYGW) $(HDFS)/.complete
$(MINIO):
	@mkdir -p $(CACHE)
	@echo "building MinIO for the S3 tests (once, about two minutes)"
	@cd / && GOBIN=$(CACHE) go install github.com/minio/minio@$(MINIO_VERSION) \
	  || echo "NOTE: MinIO could not be built; the S3 tests will be skipped"

$(VERSITYGW):
	@mkdir -p $(CACHE)
	@echo "building versitygw for the S3 tests (once, about a minute)"
	@cd / && GOBIN=$(CACHE) go install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION) \
	  || echo "NOTE: versitygw could not be built; its S3 tests will be skipped"

$(HDFS)/.complete: storage/hdfs/hdfstest/pom.xml
	@echo "fetching Hadoop for the HDFS tests (once, 90 MB)"
	@rm -rf $(HDFS)
	@mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory=$(HDFS) && touch $@ \
	  || { rm -rf $(HDFS); echo "NOTE: Hadoop could not be fetched; the HDFS tests will be skipped"; }

# Clients of other languages for the end-to-end tests: Kafka's own (90 jars, 200 MB), those
# of npm, one of which is compiled (about two minutes), and one of PyPI; RabbitMQ's. Those
# that only make soak uses are apart.
clients: $(CLIENTS)/java/.complete $(CLIENTS)/javascript/.complete $(CLIENTS)/python/.complete $(CLIENTS)/mqtt/.complete \
  $(CLIENTS)/amqp-java/.complete
soak-clients: $(CLIENTS)/amqp-javascript/.complete
$(CLIENTS)/java/.complete: $(shell find e2e/clients/java -type f)
	@echo "fetching Kafka's clients (once)"
	@rm -rf $(@D) && mkdir -p $(@D)
	@mvn -q -B -f e2e/clients/java/pom.xml -Dout=$(@D)/build package dependency:copy-dependencies -DoutputDirectory=$(@D)/lib \
	  && touch $@ || { rm -rf $(@D); echo "NOTE: Kafka's clients could not be built; their tests will be skipped"; }

$(CLIENTS)/javascript/.complete: e2e/clients/javascript/package.json e2e/clients/javascript/package-lock.json
	@echo "fetching and compiling the clients of npm (once, about two minutes)"
	@rm -rf $(@D) && mkdir -p $(@D) && cp $^ $(@D)
	@cd $(@D) && CKJS_LINKING=dynamic npm ci --no-audit --no-fund >npm.log 2>&1 && touch $@ \
	  || { tail -5 npm.log; echo "NOTE: the clients of npm could not be built; their tests will be skipped"; }

# MQTT.js, which is not compiled.
$(CLIENTS)/mqtt/.complete: e2e/clients/mqtt/package.json e2e/clients/mqtt/package-lock.json
	@rm -rf $(@D) && mkdir -p $(@D) && cp $^ $(@D)
	@cd $(@D) && npm ci --no-audit --no-fund >npm.log 2>&1 && touch $@ \
	  || { tail -5 npm.log; echo "NOTE: MQTT.js could not be fetched; its tests will be skipped"; }

# RabbitMQ's Java client.
$(CLIENTS)/amqp-java/.complete: $(shell find e2e/clients/amqp/java -type f)
	@rm -rf $(@D) && mkdir -p $(@D)
	@mvn -q -B -f e2e/clients/amqp/java/pom.xml -Dout=$(@D)/build package dependency:copy-dependencies -DoutputDirectory=$(@D)/lib \
	  && touch $@ || { rm -rf $(@D); echo "NOTE: RabbitMQ's Java client could not be built; its tests will be skipped"; }

# Two clients of RabbitMQ of npm.
$(CLIENTS)/amqp-javascript/.complete: e2e/clients/amqp/javascript/package.json e2e/clients/amqp/javascript/package-lock.json
	@rm -rf $(@D) && mkdir -p $(@D) && cp $^ $(@D)
	@cd $(@D) && npm ci --no-audit --no-fund >npm.log 2>&1 && touch $@ \
	  || { tail -5 npm.log; echo "NOTE: the AMQP clients of npm could not be fetched; their tests will be skipped"; }

$(CLIENTS)/python/.complete: e2e/clients/python/requirements.txt
	@echo "fetching the newest Python client (once)"
	@rm -rf $(@D) && mkdir -p $(dir $(@D)) && python3 -m venv $(@D) && $(@D)/bin/pip install -q --disable-pip-version-check -r $< && touch $@ \
	  || { rm -rf $(@D); echo "NOTE: the newest Python client could not be fetched; its tests will be skipped"; }

clean:
	rm -rf bin data
