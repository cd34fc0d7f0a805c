#!/usr/bin/ruby
# The round with bunny, see README.md.
require "bunny"

def check(got, want, what)
  abort "#{what}: #{got.inspect}, want #{want.inspect}" unless got == want
end

url = ENV.fetch("AMQP_URL")
cut = Object.new # hears of the cut below, and does nothing
def cut.raise(*) = nil
c = Bunny.new(url, automatically_recover: false, session_error_handler: cut, log_level: :fatal).start
ch = c.create_channel
%w[bunny bunny-dead].each { |q| ch.queue_delete(q) }
dead = ch.queue("bunny-dead", durable: true)
options = { durable: true, arguments: { "x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => "bunny-dead" } }
q = ch.queue("bunny", options)
ch.confirm_select
1000.times { |i| ch.default_exchange.publish(i.to_s, routing_key: "bunny", persistent: true) }
check(ch.wait_for_confirms, true, "confirms")
check(q.message_count, 1000, "waiting")

# 600 are taken, 500 acknowledged; then the connection is cut and 500 come, 100 of them again.
600.times do |n|
  info, _, body = q.pop(manual_ack: true)
  check(body, n.to_s, "order")
  ch.ack(info.delivery_tag) if n < 500
end
c.transport.socket.shutdown(Socket::SHUT_RDWR)
c = Bunny.new(url, automatically_recover: false).start
ch = c.create_channel
ch.prefetch(50)
got = Queue.new
q = ch.queue("bunny", options)
200.times { break if q.message_count == 500; sleep 0.05 } # until the server has seen it
check(q.message_count, 500, "what came back")
consumer = q.subscribe(manual_ack: true) do |info, _, body|
  body == "999" ? ch.reject(info.delivery_tag) : ch.ack(info.delivery_tag)
  got << [body.to_i, info.redelivered?]
end
rest = Array.new(500) { got.pop }
consumer.cancel
check(rest.map(&:first), (500..999).to_a, "order after the cut")
check(rest.count(&:last), 100, "redelivered")

dead = ch.queue("bunny-dead", durable: true)
info = props = body = nil
200.times { info, props, body = dead.pop; break if info; sleep 0.05 }
check(body, "999", "dead letter")
check(props.headers["x-death"][0].values_at("reason", "queue", "count"), ["rejected", "bunny", 1], "x-death")

headers = { "bool" => true, "int" => -5, "long" => 1 << 40, "text" => "text", "time" => Time.at(1_700_000_000), "void" => nil,
            "float" => 0.5, "table" => { "a" => { "b" => 1 } }, "array" => [1, "x"] }
ch.default_exchange.publish("", routing_key: "bunny", headers: headers, priority: 4, message_id: "m", type: "t")
props = nil
200.times { _, props, = q.pop; break if props; sleep 0.05 }
check(props.headers, headers, "headers")
check([props.priority, props.message_id, props.type], [4, "m", "t"], "properties")
begin
  c.create_channel.queue("bunny", durable: false) # ch remembers the queue
  abort "an inequivalent declare was taken"
rescue Bunny::PreconditionFailed => e
  check(e.message.start_with?("PRECONDITION_FAILED - inequivalent arg"), true, e.message)
end
ch = c.create_channel
%w[bunny bunny-dead].each { |name| ch.queue_delete(name) }
c.close
puts "ok"
