package shop;

import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.kafka.annotation.BackOff;
import org.springframework.kafka.annotation.DltHandler;
import org.springframework.kafka.annotation.EnableKafkaRetryTopic;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.annotation.RetryableTopic;
import org.springframework.kafka.config.ConcurrentKafkaListenerContainerFactory;
import org.springframework.kafka.core.ConsumerFactory;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.core.ProducerFactory;
import org.springframework.kafka.listener.AfterRollbackProcessor;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultAfterRollbackProcessor;
import org.springframework.kafka.support.KafkaHeaders;
import org.springframework.messaging.handler.annotation.Header;
import org.springframework.scheduling.TaskScheduler;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;
import org.springframework.stereotype.Component;
import org.springframework.transaction.annotation.Transactional;
import org.springframework.util.backoff.FixedBackOff;

/**
 * A Spring Boot application: orders go through retry topics, payments are read, processed and written in transactions of
 * the listener's container, transfers in those of a method. Whatever begins with "bad" always fails, with "twice" once.
 */
@SpringBootApplication(proxyBeanMethods = false)
@EnableKafkaRetryTopic
public class Orders {
    public static void main(String[] args) {
        SpringApplication.run(Orders.class, args);
    }

    @Bean
    TaskScheduler scheduler() {
        return new ThreadPoolTaskScheduler();
    }

    /** In a transaction where there is one, and without where there is none. */
    @Bean
    KafkaTemplate<String, String> template(ProducerFactory<String, String> producers) {
        KafkaTemplate<String, String> template = new KafkaTemplate<>(producers);
        template.setAllowNonTransactional(true);
        return template;
    }

    /** Beside the one that Boot makes, whose containers begin a transaction for each record. */
    @Bean
    ConcurrentKafkaListenerContainerFactory<String, String> plain(ConsumerFactory<String, String> consumers) {
        ConcurrentKafkaListenerContainerFactory<String, String> factory = new ConcurrentKafkaListenerContainerFactory<>();
        factory.setConsumerFactory(consumers);
        return factory;
    }

    /** Three attempts, then to the dead letters in the transaction that commits the offset. */
    @Bean
    AfterRollbackProcessor<Object, Object> afterRollback(KafkaTemplate<String, String> template) {
        return new DefaultAfterRollbackProcessor<>(
                new DeadLetterPublishingRecoverer(template), new FixedBackOff(50, 2), template, true);
    }

    /** Orders: attempts go from topic to topic, so that nobody waits behind one that fails. */
    @Component
    static class Shipping {
        private final KafkaTemplate<String, String> template;

        Shipping(KafkaTemplate<String, String> template) {
            this.template = template;
        }

        @RetryableTopic(attempts = "3", backOff = @BackOff(delay = 200, multiplier = 2),
                listenerContainerFactory = "plain", kafkaTemplate = "template", numPartitions = "1", replicationFactor = "1")
        @KafkaListener(id = "orders", topics = "orders", containerFactory = "plain")
        void order(String order, @Header(KafkaHeaders.RECEIVED_TOPIC) String topic) {
            if (order.startsWith("bad") || order.startsWith("twice") && topic.equals("orders")) {
                throw new IllegalStateException("refused " + order);
            }
            template.send("shipped", topic, order).join();
        }

        @DltHandler
        void lost(String order, @Header(KafkaHeaders.RECEIVED_TOPIC) String topic) {
            template.send("lost", topic, order).join();
        }
    }

    /** Payments: two topics are written and the offset committed, together or not at all. */
    @Component
    static class Payments {
        private final KafkaTemplate<String, String> template;
        private final Set<String> met = ConcurrentHashMap.newKeySet();

        Payments(KafkaTemplate<String, String> template) {
            this.template = template;
        }

        @KafkaListener(id = "payments", topics = "payments")
        void pay(ConsumerRecord<String, String> payment) {
            template.send("receipts", payment.key(), payment.value());
            template.send("ledger", payment.key(), payment.value());
            // What is aborted should have been written.
            template.flush();
            boolean first = met.add(payment.value());
            if (payment.value().startsWith("bad") || payment.value().startsWith("twice") && first) {
                throw new IllegalStateException("refused " + payment.value());
            }
        }
    }

    /** Transfers: no transaction but that of the method. */
    @Component
    static class Transfers {
        private final Bank bank;

        Transfers(Bank bank) {
            this.bank = bank;
        }

        @KafkaListener(id = "transfers", topics = "transfers", containerFactory = "plain")
        void transfer(String transfer) {
            try {
                bank.move(transfer);
            } catch (IllegalStateException refused) {
                System.err.println(refused.getMessage());
            }
        }
    }

    @Component
    static class Bank {
        private final KafkaTemplate<String, String> template;

        Bank(KafkaTemplate<String, String> template) {
            this.template = template;
        }

        @Transactional
        public void move(String transfer) {
            template.send("debits", transfer, transfer).join();
            template.send("credits", transfer, transfer).join();
            if (transfer.startsWith("bad")) {
                throw new IllegalStateException("refused " + transfer);
            }
        }
    }
}
